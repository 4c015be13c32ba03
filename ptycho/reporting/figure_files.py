"""Files of figures: their names, and whether all of one is on the disk."""

from pathlib import Path

from PIL import Image

from ptycho.workflow.damage import reading
from ptycho.workflow.files import ContractError, WriteError

ENDS = {".png": b"IEND\xaeB`\x82", ".pdf": b"%%EOF", ".svg": b"</svg>"}
"""Suffix of a figure -> its last bytes."""


def check_name(path: Path) -> None:
    """Refuse a name that does not say one of the formats of figures.

    Raises
    ------
    ContractError
        If it has another suffix.
    """
    if path.suffix.lower() not in ENDS:
        raise ContractError(f"{path}: wanted a name that ends in {', '.join(ENDS)}")


def check_complete(written: Path, path: Path) -> None:
    """Refuse a figure whose end is missing, or, of a PNG, whose checksums differ.

    Parameters
    ----------
    written : Path
        The file, under a temporary name.
    path : Path
        The name that it is to have.

    Raises
    ------
    WriteError
        If it is not complete.
    """
    if not _is_complete(written, path.suffix.lower()):
        raise WriteError(f"{path}: what was written is not complete; try again, on another disk")


def read_figure(path: Path) -> bytes:
    """Read a figure.

    Raises
    ------
    ContractError
        If it is missing, its end is missing, or, of a PNG, its checksums differ.
    """
    with reading(path):
        content, complete = path.read_bytes(), _is_complete(path, path.suffix.lower())
    if not complete:
        raise ContractError(f"{path}: no figure, cut short, or damaged; wanted {path.suffix[1:].upper()}, complete")
    return content


def _is_complete(path: Path, suffix: str) -> bool:
    if not path.read_bytes().rstrip().endswith(ENDS[suffix]):
        return False
    if suffix == ".png":
        try:
            with Image.open(path, formats=("PNG",)) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError):
            return False
    return True
