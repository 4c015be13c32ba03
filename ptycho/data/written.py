"""Tables and texts, held against the digests of them that a file of the same job carries beside them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptycho.data.npz import Npz
from ptycho.workflow.archives import Archive
from ptycho.workflow.damage import parse_json, read_json, reading
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.provenance import CARD

DIGESTS = "digests"
"""Key of the metadata, card or JSON that has them."""


def digests_of(*paths: StrPath) -> dict[str, str]:
    """Return the SHA-256 of files that have been written, by name; for a file in the same folder.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If one cannot be read.
    """
    return {Path(path).name: _sha256(path) for path in paths}


def check_unchanged(path: StrPath) -> None:
    """Refuse a file whose content is not the one that a file beside it has the digest of.

    A file that none beside it names is believed.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it has changed, or is missing.
    """
    path = Path(path)
    found = _sha256(path)
    for carrier in sorted(path.parent.iterdir()):
        read = _READERS.get(carrier.suffix)
        if read is None or carrier == path or not carrier.is_file():
            continue
        try:
            digests = read(carrier).get(DIGESTS)
        except ContractError:
            continue
        if isinstance(digests, dict) and digests.get(path.name, found) != found:
            raise ContractError(
                f"{path}: another content than its job has written, by '{DIGESTS}' of {carrier.name}; wanted that: "
                "delete it and run again"
            )


def _sha256(path: StrPath) -> str:
    with reading(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metadata(path: Path) -> dict[str, Any]:
    with Npz(path) as file:
        return file.metadata() if "metadata" in file else {}


def _card(path: Path) -> dict[str, Any]:
    with Archive(path) as archive:
        return parse_json(archive.read(CARD), f"{path}: '{CARD}'") if CARD in archive.names else {}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {".npz": _metadata, ".keras": _card, ".json": read_json}
