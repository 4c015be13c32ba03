"""Why a measured study stops before its reference: the errors of a check that the config does not accept.

It stands here, in no digest of code, so that a change of the checks makes no reference anew.
"""

from collections.abc import Iterable
from pathlib import Path

from ptycho.workflow.damage import check_fields, read_json
from ptycho.workflow.files import ContractError, StrPath


def refusal(verdict: StrPath, accepted: Iterable[str] = ()) -> str:
    """Say why a study stops, where to look, and how to go on nevertheless; "" if it does not stop.

    Parameters
    ----------
    verdict : path
        JSON of a check: `source`, `status` and `findings`, see `ptycho.inspection.findings.Verdict`; its page has the
        suffix .html instead.
    accepted : iterable of str
        Topics whose errors do not stop the study, `source.accept` of its config.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is no verdict.
    """
    content, where = read_json(verdict), f"{verdict}: not the verdict of a check: it"
    check_fields(content, where, source=str, status=int, findings=list)
    for part in content["findings"]:
        if not isinstance(part, dict):
            raise ContractError(f"{where} has the finding {part!r}; wanted an object, {{…}}")
        check_fields(part, where, topic=str, level=str, text=str, remedy=str)
    errors = [part for part in content["findings"] if part["level"] == "error"]
    source, unreadable = content["source"], content["status"] == 2
    refused = errors if unreadable else [error for error in errors if error["topic"] not in set(accepted)]
    if not refused:
        return ""
    topics = ", ".join(dict.fromkeys(error["topic"] for error in refused))
    go_on = "" if unreadable else f"; `source.accept: [{topics}]` in the config goes on nevertheless"
    lines = (f"  {part['topic']}: {'; '.join(filter(None, (part['text'], part['remedy'])))}" for part in refused)
    return "\n".join([f"{source}: not fit for a study, see {Path(verdict).with_suffix('.html')}{go_on}", *lines])
