"""The files of a check: page, figure, text, verdict, proposed detector and study."""

import json
from pathlib import Path

from ptycho.data.npz import save_arrays
from ptycho.data.scan import open_scan
from ptycho.inspection.check import Check, check_scan, unreadable
from ptycho.inspection.findings import Verdict
from ptycho.inspection.support import study_file
from ptycho.reporting.check_figures import plot_check
from ptycho.reporting.check_page import render_check, verdict_text
from ptycho.reporting.figures import save
from ptycho.workflow.config import DEFAULTS, read_file
from ptycho.workflow.files import ContractError, StrPath, save_text


def check_file(path: StrPath) -> tuple[Verdict, Check | None]:
    """Check the scan in a file; the check is None if it cannot be read, and the verdict says why."""
    try:
        check = check_scan(open_scan(path), read_file(DEFAULTS)["grouping"])
    except (ContractError, OSError) as error:
        return unreadable(Path(path), error), None
    return check.verdict, check


def write_check(stem: StrPath, verdict: Verdict, check: Check | None) -> list[Path]:
    """Write the files of a check; each is complete or absent.

    Parameters
    ----------
    stem : path
        Beginning of their names.
    verdict, check
        As `check_file` returns them.

    Returns
    -------
    list of Path
        HTML, TXT and JSON; PNG if the scan could be read; YAML if it supports a study; NPZ if something is proposed.
    """
    paths = {suffix: Path(f"{stem}.{suffix}") for suffix in ("html", "txt", "json", "png", "yaml", "npz")}
    files, study = {"the verdict, for programs": paths["json"].name}, ""
    written = [paths["html"], paths["txt"], paths["json"]]
    if check is not None:
        save(plot_check(check), paths["png"])
        written.append(paths["png"])
        if check.support.is_enough:
            name = "".join(letter if letter.isalnum() else "-" for letter in check.scan.path.stem)
            study = study_file(str(check.scan.path), name, check.support, read_file(DEFAULTS))
            save_text(paths["yaml"], study)
            written.append(paths["yaml"])
            files["a study that this scan supports"] = paths["yaml"].name
        if check.proposals:
            save_arrays(paths["npz"], **check.proposals)
            written.append(paths["npz"])
            files[f"proposed {' and '.join(check.proposals)}: ptycho convert … --mask"] = paths["npz"].name
    figure = paths["png"] if check is not None else None
    save_text(paths["html"], render_check(verdict, check, figure=figure, study=study, files=files))
    save_text(paths["txt"], verdict_text(verdict))
    save_text(paths["json"], json.dumps(verdict.as_dict(), indent=2) + "\n")
    return written
