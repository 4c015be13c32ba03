"""Print what made a result file, and compare it with the inputs and the code of today.

The exit code is 0 if inputs and code are unchanged, 1 if one has changed, 2 if the file has no record.
"""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import yaml

from ptycho.data.npz import Npz
from ptycho.workflow.archives import Archive
from ptycho.workflow.code_digests import ROOT, code_digest, script_digest
from ptycho.workflow.damage import check_fields, is_file, parse_json, read_json, reading, require_file
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.provenance import CARD, file_digest, is_intact

CARRIERS = (".json", ".keras", ".npz", ".png")
"""Suffixes of files that can carry a record."""
SCRIPT = r"([\w-][\w. -]*/)?[\w-]+\.py|\w+(\.\w+)*"
"""A program of this project, beside the package, or a module of it; no other file is read for its digest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("file", type=Path, help="a file that a study or a program of this project has written")


def run(options: argparse.Namespace) -> int:
    """Print the record, then the state of inputs and code."""
    record, carrier = find_record(options.file)
    source = "" if carrier == options.file else f" (its record is in {carrier.name})"
    print(f"{options.file}{source}")
    facts = {key: value for key, value in record.items() if key not in ("inputs", "outputs")}
    print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=120).rstrip())
    root = root_of(carrier, record)
    states = set()
    print("inputs:" if record["inputs"] else "inputs: none")
    for path, digest in record["inputs"].items():
        state = state_of(root / path, digest)
        states.add(state)
        print(f"  {state:<9}  {path}  {digest}")
    code = state_of_code(record)
    print(f"installed code: {code}")
    return int("changed" in states or code == "changed")


def own_record(path: StrPath) -> dict[str, Any] | None:
    """Read the record that a file carries; None if it carries none.

    Raises
    ------
    ContractError
        If the file is missing or cannot be read.
    """
    path = Path(path)
    require_file(path)
    readers = {".npz": _read_npz, ".keras": _read_card, ".png": _read_png, ".json": read_json}
    if path.suffix not in readers:
        return None
    record = readers[path.suffix](path).get("provenance")
    return None if record is None else checked_record(path, record)


def checked_record(path: Path, record: Any) -> dict[str, Any]:
    """Return a record if it has the form that `ptycho.workflow.provenance.make_record` gives it.

    Raises
    ------
    ContractError
        If it has not.
    """
    where = f"{path}: its record"
    check_fields({"provenance": record}, where, provenance=dict)
    check_fields(record, where, script=str, code=str, inputs=dict, outputs=list, directory=str)
    names = [*record["inputs"], *record["inputs"].values(), *record["outputs"], record["script"], record["directory"]]
    if not all(isinstance(name, str) and "\0" not in name for name in names):
        raise ContractError(f"{where}: 'inputs' or 'outputs' hold something else than names and digests")
    if not re.fullmatch(SCRIPT, record["script"]):
        raise ContractError(f"{where}: 'script' is {record['script']!r}; wanted folder/script.py, or a module")
    return record


def _read_npz(path: Path) -> dict[str, Any]:
    with Npz(path) as file:
        return file.metadata() if "metadata" in file else {}


def _read_card(path: Path) -> dict[str, Any]:
    with Archive(path) as archive:
        return parse_json(archive.read(CARD), f"{path}: '{CARD}'") if CARD in archive.names else {}


def _read_png(path: Path) -> dict[str, Any]:
    from PIL import Image

    with reading(path, "the image"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # no pixel is read
        with Image.open(path, formats=("PNG",)) as image:
            text = image.info.get("provenance")
    return {} if text is None else {"provenance": parse_json(text, f"{path}: its record")}


def find_record(path: Path) -> tuple[dict[str, Any], Path]:
    """Find the record of a file: in the file, or, for tables and texts, in an output of the same job beside it.

    Returns
    -------
    record : dict
        As `ptycho.workflow.provenance.make_record` returns it.
    carrier : Path
        The file that carries it.

    Raises
    ------
    ContractError
        If there is none.
    """
    record = own_record(path)
    if record is not None:
        return record, path
    for carrier in sorted(path.parent.iterdir()):
        if carrier.suffix in CARRIERS and carrier != path:
            try:
                record = own_record(carrier)
            except ContractError:
                continue
            if record and any(
                (root_of(carrier, record) / output).resolve() == path.resolve() for output in record["outputs"]
            ):
                return record, carrier
    raise ContractError(
        f"{path}: no record of what made it, in it or beside it; results of a study, of compare_models.py and of "
        "convert have one (what a job took, cost/*.tsv, has not)"
    )


def root_of(carrier: Path, record: dict[str, Any]) -> Path:
    """Return the folder that the record's paths are relative to, even if the results have been moved."""
    parts = carrier.resolve().parts
    for output in map(Path, record["outputs"]):
        if not output.is_absolute() and parts[-len(output.parts) :] == output.parts:
            return Path(*parts[: -len(output.parts)])
    return Path(record["directory"])


def state_of(path: Path, digest: str) -> str:
    """Return "unchanged", "changed" or "gone"; every byte of the file is read."""
    if not is_file(path):
        return "gone"
    return "unchanged" if file_digest(path) == digest and is_intact(path) else "changed"


def state_of_code(record: dict[str, Any]) -> str:
    """Return "the same", "changed", or why the code cannot be compared."""
    script = record["script"]
    if script.endswith(".py"):
        file = ROOT.parent / script
        if not is_file(file):
            return f"not compared: there is no {script} beside the package"
        return "the same" if script_digest(file) == record["code"] else "changed"
    try:
        return "the same" if code_digest(script) == record["code"] else "changed"
    except ModuleNotFoundError:
        return "changed"
