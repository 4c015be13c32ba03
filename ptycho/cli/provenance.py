"""Print what made a result file, and hold it against the inputs that are still there.

The exit code is 0 if they and the code are the same, 1 if one has changed, 2 if the file has no record.
"""

import json
import zipfile
from pathlib import Path

import yaml

from ptycho.workflow.files import ContractError
from ptycho.workflow.provenance import CARD, ROOT, code_digest, file_digest, is_intact, script_digest

CARRIERS = (".json", ".keras", ".npz", ".png")
"""Endings of files that a record can be in."""


def describe(parser) -> None:
    """Lay out the arguments."""
    parser.add_argument("file", type=Path, help="what a study, or one of our programs, has written")


def run(options) -> int:
    """Print the record, then what has become of inputs and code."""
    record, carrier = find_record(options.file)
    beside = "" if carrier == options.file else f" (its record is in {carrier.name})"
    print(f"{options.file}{beside}")
    shown = {key: value for key, value in record.items() if key not in ("inputs", "outputs")}
    print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120).rstrip())
    root, states = root_of(carrier, record), set()
    print("inputs:" if record["inputs"] else "inputs: none")
    for path, digest in record["inputs"].items():
        state = state_of(root / path, digest)
        states.add(state)
        print(f"  {state:<9}  {path}  {digest}")
    code = state_of_code(record)
    print(f"installed code: {code}")
    return int("changed" in states or code == "changed")


def own_record(path: Path) -> dict | None:
    """Read the record that a file carries; None if it has none.

    Raises
    ------
    ContractError
        If the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ContractError(f"{path}: no such file")
    readers = {".npz": _of_npz, ".keras": _of_card, ".png": _of_picture, ".json": lambda p: json.loads(p.read_text())}
    if path.suffix not in readers:
        return None
    try:
        said = readers[path.suffix](path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ContractError(f"{path}: cannot be read ({error})") from None
    return said.get("provenance") if isinstance(said, dict) else None


def _of_npz(path) -> dict:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}


def _of_card(path) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(CARD)) if CARD in archive.namelist() else {}


def _of_picture(path) -> dict:
    from PIL import Image

    with Image.open(path) as picture:
        return {"provenance": json.loads(picture.info.get("provenance", "null"))}


def find_record(path: Path) -> tuple[dict, Path]:
    """Find a file's record: in itself, or in another file of the same job, beside it, as for tables and texts.

    Returns
    -------
    record : dict
        As `ptycho.workflow.provenance.make_record` makes it.
    carrier : Path
        The file that it is in.

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
        "convert have one (what Snakemake measures, cost/*.tsv, has not)"
    )


def root_of(carrier: Path, record: dict) -> Path:
    """Find the folder that the record's paths start from, wherever the results have been moved to."""
    parts = carrier.resolve().parts
    for output in map(Path, record["outputs"]):
        if not output.is_absolute() and parts[-len(output.parts) :] == output.parts:
            return Path(*parts[: -len(output.parts)])
    return Path(record["directory"])


def state_of(path: Path, digest: str) -> str:
    """Return "unchanged", "changed" or "gone"; every byte is read."""
    if not path.is_file():
        return "gone"
    return "unchanged" if file_digest(path) == digest and is_intact(path) else "changed"


def state_of_code(record: dict) -> str:
    """Return "the same", "changed", or why that cannot be said."""
    script = record["script"]
    if script.endswith(".py"):
        file = ROOT.parent / script
        if not file.is_file():
            return f"not compared, for there is no {script} beside the package"
        return "the same" if script_digest(file) == record["code"] else "changed"
    try:
        return "the same" if code_digest(script) == record["code"] else "changed"
    except ModuleNotFoundError:
        return "changed"
