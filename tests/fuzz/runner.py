"""Runs readers on damaged files in processes of their own, which have limits of memory and time for each input."""

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import resource
import signal
import tempfile
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np

from tests.fuzz.damage import damage

MEMORY_BYTES = 1 << 30
"""Memory that a reader may take beyond what its imports take; all files are below 200 kB."""
TOO_MUCH = ("Unable to allocate", "does not fit into memory", "not enough memory")
"""What messages say after an allocation has failed: what a file declares was not compared with anything before."""
CORPUS = Path(__file__).parent / "corpus"
"""Damaged files that were once misread: {entry point}/{what is wrong}/{file name}."""
SILENCE_S = 600.0
"""Time after which a process that says nothing is ended: it waits for something, or the machine is very busy."""
PRELOADED = ["tests.fuzz.worker"]
"""Imported once, by the server whose forks run the batches."""


ALONE = "not alone, but after the inputs before it: "
"""Before what came of an input that is read or refused in a process of its own."""
CONFIRMED = 10
"""Failures of an entry point that are tried again alone."""
FINISHED = "finished"
"""Last message of a process."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """An input that was neither read nor refused in one line that names the file."""

    number: int
    how: str
    """How the file was damaged."""
    what: str
    """What came of it."""


def run(name, seed, numbers):
    """Run a range of inputs of an entry point; return the failures, of which the first are tried again alone.

    With a seed of None the inputs are those of the corpus.
    """
    failures = run_together(name, seed, numbers)
    if len(numbers) == 1:
        return failures
    for place, failure in enumerate(failures[:CONFIRMED]):
        if not run_together(name, seed, range(failure.number, failure.number + 1)):
            failures[place] = dataclasses.replace(failure, what=f"{ALONE}{failure.what}")
    return failures


def run_together(name, seed, numbers):
    """Run a range of inputs one after the other in a process; a killed process is followed by another one."""
    failures, start, context = [], numbers.start, multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    while start < numbers.stop:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run_batch, args=(name, seed, range(start, numbers.stop), sender))
        process.start()
        sender.close()
        current, found = _collect(receiver)
        if isinstance(current, str) and current != FINISHED:
            raise RuntimeError(f"{name}: the intact files are not read, or cannot be damaged: {current}")
        failures += found
        if receiver.closed:
            process.kill()
        process.join()
        if current == FINISHED:
            break
        if current is None:
            raise RuntimeError(f"{name}: no input was begun: {_reason(process.exitcode)}")
        number, how = current
        failures.append(Failure(number, how, f"the process ended: {_reason(process.exitcode)}"))
        start = number + 1
    return failures


def _collect(receiver):
    """Return the input that was last begun, number and damage, and the failures that a process reported.

    A text in place of the first is the traceback of a process that could not read the intact files, or damage them.
    """
    current, failures = None, []
    try:
        while True:
            if not receiver.poll(SILENCE_S):
                receiver.close()
                break
            message = receiver.recv()
            if isinstance(message, Failure):
                failures.append(message)
            else:
                current = message
    except EOFError:
        pass
    return current, failures


def _reason(code):
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return "it took too much CPU time" if name == "SIGPROF" else name


def run_batch(name, seed, numbers, sender):
    """Run inputs one after the other; send each before it is run, and every failure."""
    from tests.fuzz.entry_points import ENTRY_POINTS
    from tests.fuzz.faulty_readers import FAULTY

    _be_silent()
    limit_memory()
    entry = (ENTRY_POINTS | FAULTY)[name]
    with tempfile.TemporaryDirectory() as folder:
        with _traceback_to(sender):
            case = Case(name, entry, Path(folder))
        for number in numbers:
            with _traceback_to(sender):
                damaged = case.damage(seed, number)
            sender.send((number, f"{damaged.path.name}: {damaged.how}"))
            signal.setitimer(signal.ITIMER_PROF, entry.cpu_s)
            what = case.outcome(damaged)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if what is not None:
                sender.send(Failure(number, f"{damaged.path.name}: {damaged.how}", what))
    sender.send(FINISHED)
    sender.close()
    os._exit(0)  # without what libraries do at exit


@contextlib.contextmanager
def _traceback_to(sender):
    """Send the traceback of what fails in the tests themselves."""
    try:
        yield
    except Exception:
        sender.send(traceback.format_exc())
        raise


def _be_silent():
    warnings.simplefilter("ignore")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def limit_memory():
    """Limit what this process may allocate beyond what it has."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (data,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmData"))
    limit = 1024 * int(data) + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A damaged file in its place."""

    path: Path
    content: bytes
    how: str
    by_bytes: bool


class Case:
    """The intact files of an entry point in a folder, one of which is damaged at a time.

    Raises
    ------
    AssertionError
        If the intact files are not read.
    """

    def __init__(self, name, entry, folder):
        self.name, self.entry, self.folder = name, entry, folder
        for write in entry.beside:
            write(folder)
        written = entry.write(folder)
        self.paths = [written] if isinstance(written, Path) else list(written)
        self.intact = {path: path.read_bytes() for path in self.paths}
        self.value = digest(entry.read(folder))

    def damage(self, seed, number):
        """Return the damage that a seed and a number stand for; nothing is written."""
        if seed is None:
            path = corpus_of(self.name)[number]
            by_bytes = path.parent.name.startswith("bytes")
            return Damaged(self.folder / path.name, path.read_bytes(), path.parent.name, by_bytes)
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        path = self.paths[int(rng.integers(len(self.paths)))]
        damaged = damage(self.intact[path], path.suffix, rng)
        return Damaged(path, damaged.content, damaged.how, damaged.by_bytes)

    def outcome(self, damaged):
        """Return what is wrong with what the reader does with a damaged file; None if nothing is."""
        for path, content in self.intact.items():
            path.write_bytes(content)
        damaged.path.write_bytes(damaged.content)
        try:
            value = self.entry.read(self.folder)
        except Exception as error:
            return self.complaint(error)
        finally:
            damaged.path.write_bytes(self.intact[damaged.path])
        if self.entry.has_checksums and damaged.by_bytes and value is not None and digest(value) != self.value:
            return "silent: other values than were written were read in spite of checksums"
        return None

    def complaint(self, error):
        """Return what is wrong with an exception as the answer to a damaged file; None if nothing is."""
        kind, message = type(error), str(error)
        if isinstance(error, MemoryError) or any(words in message for words in TOO_MUCH):
            return f"memory: {message[:200]}"
        if not kind.__module__.startswith(("ptycho.", "tests.fuzz.")):
            return f"traceback: {kind.__name__}: {message[:200]} ({_place(error)})"
        if self.entry.one_line and len(message.splitlines()) != 1:
            return f"not one line: {message[:200]!r}"
        if self.entry.names_file and not any(path.name in message for path in self.paths):
            return f"names no file: {message[:200]!r}"
        return None


def _place(error):
    """Return the last line of this project that an exception came through."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/ptycho/" in file:
            place = f"ptycho/{file.rpartition('/ptycho/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def corpus_of(name):
    """Return the files of the corpus that an entry point is given."""
    return sorted((CORPUS / name.replace(" ", "_")).glob("*/*"))


def digest(value):
    """Return a digest of arrays, numbers and texts in tuples, lists and dictionaries."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha, value):
    if isinstance(value, dict):
        value = sorted((str(key), part) for key, part in value.items())
    if isinstance(value, list | tuple):
        sha.update(f"[{len(value)}".encode())
        for part in value:
            _feed(sha, part)
    elif isinstance(value, np.ndarray):
        sha.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    else:
        sha.update(repr(value).encode())
