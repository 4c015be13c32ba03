"""The files of a check: page, figure, text, verdict, proposed detector and study."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.data.npz import save_arrays
from ptycho.data.scan import open_scan
from ptycho.inspection.check import Check, check_scan, unreadable
from ptycho.inspection.findings import Verdict, named_option
from ptycho.inspection.support import Request, study_file
from ptycho.reporting.check_figures import plot_check, plot_unreadable
from ptycho.reporting.check_page import render_check, verdict_text
from ptycho.reporting.figures import save
from ptycho.workflow.config import DEFAULTS, read_file
from ptycho.workflow.files import ContractError, StrPath, save_text


def check_file(
    path: StrPath, *, grouping: dict[str, Any] | None = None, request: Request | None = None
) -> tuple[Verdict, Check | None]:
    """Check the scan in a file; the check is None if it cannot be read, and the verdict says why.

    Parameters
    ----------
    path : path
    grouping, request
        As for `ptycho.inspection.check.check_scan`; default: the grouping of `config/defaults.yaml`.
    """
    try:
        check = check_scan(open_scan(path), grouping or read_file(DEFAULTS)["grouping"], request)
    except (ContractError, OSError) as error:
        return unreadable(Path(path), error), None
    return check.verdict, check


def mending_command(check: Check, stem: StrPath) -> str:
    """Return the command that applies to the checked scan what the check proposes; "" if it proposes nothing.

    Exposures that are of no use are left out. Mask and flux are those of the scan that was checked, as its frames are;
    the options turn frames and mask alike.
    """
    search, options = check.search, []
    if search is not None and search.best.n_steps:
        options.append(search.best.options)
    if check.usable.any() and not check.usable.all():
        options.append(f"--leave-out {named_option(np.flatnonzero(~check.usable))}")
    for key, option in (("bad_pixels", "--mask"), ("exposure_scale", "--exposure-scale")):
        if key in check.proposals:
            options.append(f"{option} {stem}.npz")
    mended = check.scan.path.with_name(f"{check.scan.path.stem}_mended.npz").name
    return " ".join(["ptycho convert", str(check.scan.path), mended, *options]) if options else ""


def write_check(
    stem: StrPath, verdict: Verdict, check: Check | None, provenance: dict[str, Any] | None = None
) -> list[Path]:
    """Write the files of a check; each is complete or absent.

    Parameters
    ----------
    stem : path
        Beginning of their names.
    verdict, check
        As `check_file` returns them.
    provenance : dict, optional
        Record of what made them; stored in PNG and JSON.

    Returns
    -------
    list of Path
        HTML, PNG, TXT and JSON; YAML if the scan supports a study; NPZ if something is proposed.
    """
    paths = {suffix: Path(f"{stem}.{suffix}") for suffix in ("html", "txt", "json", "png", "yaml", "npz")}
    files, study = {"the verdict, for programs": paths["json"].name}, ""
    written = [paths["html"], paths["png"], paths["txt"], paths["json"]]
    for optional in ("yaml", "npz"):
        paths[optional].unlink(missing_ok=True)  # of an earlier check
    save(plot_unreadable(verdict) if check is None else plot_check(check), paths["png"], provenance)
    if check is not None:
        if check.support.is_enough:
            name = "".join(letter if letter.isalnum() else "-" for letter in check.scan.path.stem)
            study = study_file(str(check.scan.path), name, check.support, read_file(DEFAULTS))
            save_text(paths["yaml"], study)
            written.append(paths["yaml"])
            files["a study that this scan supports"] = paths["yaml"].name
        if check.proposals:
            save_arrays(paths["npz"], **check.proposals)
            written.append(paths["npz"])
            files[f"proposed {' and '.join(check.proposals)}: {mending_command(check, stem)}"] = paths["npz"].name
    save_text(paths["html"], render_check(verdict, check, figure=paths["png"], study=study, files=files))
    save_text(paths["txt"], verdict_text(verdict))
    record = {} if provenance is None else {"provenance": provenance}
    save_text(paths["json"], json.dumps({**verdict.as_dict(), **record}, indent=2) + "\n")
    return written
