"""The files of a check: page, figure, text, verdict, proposed detector and study."""

import json
import os
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
from ptycho.workflow.damage import read_json, sealed
from ptycho.workflow.files import ContractError, StrPath, save_text
from ptycho.workflow.provenance import file_digest

SUFFIXES = ("html", "png", "txt", "json", "yaml", "npz")
"""Of the files of a check."""


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


def require_own(stem: StrPath, scan: StrPath) -> None:
    """Refuse names that something else has than the unchanged files of an earlier check.

    The JSON of a check lists the other files with their digests.

    Parameters
    ----------
    stem : path
        Beginning of the names.
    scan : path
        What is checked.

    Raises
    ------
    ContractError
        If a file, folder or link is in the way: the scan itself, a file of somebody else, or one that was edited.
    """
    paths = _paths(stem)
    _refuse_input(paths, scan)
    written = _digests(paths["json"])
    taken = [
        str(path)
        for suffix, path in paths.items()
        if os.path.lexists(path) and not (written is not None and (suffix == "json" or _is_in(path, written)))
    ]
    if taken:
        raise ContractError(
            f"{', '.join(taken)}: in the way, and not as a check has written it; wanted another --output, or move it"
        )


def _paths(stem: StrPath) -> dict[str, Path]:
    return {suffix: Path(f"{stem}.{suffix}") for suffix in SUFFIXES}


def _refuse_input(paths: dict[str, Path], scan: StrPath) -> None:
    for path in paths.values():
        if path.exists() and Path(scan).exists() and path.samefile(scan):
            raise ContractError(f"{path}: the scan itself, which is never replaced; wanted another --output")


def _digests(verdict: Path) -> dict[str, Any] | None:
    """Return the digests of the files that were written with a verdict, by name; None if it is no verdict."""
    if not verdict.is_file() or verdict.is_symlink():
        return None
    try:
        Verdict.load(verdict)
        files = read_json(verdict).get("files")
    except ContractError:
        return None
    return files if isinstance(files, dict) else {}


def _is_in(path: Path, digests: dict[str, Any]) -> bool:
    return path.is_file() and not path.is_symlink() and digests.get(path.name) == file_digest(path)


def write_check(
    stem: StrPath, verdict: Verdict, check: Check | None, provenance: dict[str, Any] | None = None
) -> list[Path]:
    """Write the files of a check: all of them, or, after an error, none.

    Files of these names are replaced, and removed if there is no such file now; see `require_own`.

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

    Raises
    ------
    ContractError
        If the scan has one of the names.
    """
    paths = _paths(stem)
    _refuse_input(paths, verdict.source)
    for optional in ("yaml", "npz"):
        paths[optional].unlink(missing_ok=True)  # of an earlier check
    try:
        return _write(paths, verdict, check, provenance)
    except BaseException:
        for path in paths.values():
            if path.is_file():
                path.unlink()
        raise


def _write(
    paths: dict[str, Path], verdict: Verdict, check: Check | None, provenance: dict[str, Any] | None
) -> list[Path]:
    written, study = [paths["html"], paths["png"], paths["txt"]], ""
    files = {"the verdict, for programs": paths["json"].name}
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
            command = mending_command(check, paths["npz"].with_suffix(""))
            files[f"proposed {' and '.join(check.proposals)}: {command}"] = paths["npz"].name
    save_text(paths["html"], render_check(verdict, check, figure=paths["png"], study=study, files=files))
    save_text(paths["txt"], verdict_text(verdict))
    record: dict[str, Any] = {} if provenance is None else {"provenance": provenance}
    digests = {path.name: file_digest(path) for path in written}
    save_text(paths["json"], json.dumps(sealed({**verdict.as_dict(), "files": digests, **record}), indent=2) + "\n")
    return [*written[:3], paths["json"], *written[3:]]
