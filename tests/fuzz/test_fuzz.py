"""Damaged files are read or refused in one line that names the file: no traceback, no hang, no other values, no bomb.

The seed is printed with what fails; PTYCHO_FUZZ_SEED=… takes another one.
"""

import os
import sys

import pytest

from tests.fuzz.entry_points import ENTRY_POINTS
from tests.fuzz.faulty_readers import FAULTY
from tests.fuzz.runner import CORPUS, Case, corpus_of, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
SEED = int(os.environ.get("PTYCHO_FUZZ_SEED", "1"))
MANY = 10
"""Times as many inputs in the long test."""
SHOWN = 10


def assert_none(name, failures, seed):
    command = f"python -m tests.fuzz '{name}' --seed {seed} --number"
    lines = [f"  {command} {failure.number}\n    {failure.how}\n    {failure.what}" for failure in failures[:SHOWN]]
    assert not failures, "\n".join([f"{len(failures)} inputs of '{name}' fail, seed {seed}; to repeat:", *lines])


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_damaged_files_are_read_or_refused(name):
    assert_none(name, run(name, SEED, range(ENTRY_POINTS[name].inputs)), SEED)


@pytest.mark.long
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_many_damaged_files_are_read_or_refused(name):
    start = ENTRY_POINTS[name].inputs  # those before are run by the other test
    assert_none(name, run(name, SEED, range(start, MANY * start)), SEED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name.replace("_", " ") for path in CORPUS.iterdir()))
def test_files_that_were_once_misread_are_read_or_refused(name):
    failures = run(name, None, range(len(corpus_of(name))))
    assert not failures, "\n".join(f"{failure.how}: {failure.what}" for failure in failures)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "complaint"), [
    ("refuses", None),
    ("reads", None),
    ("traceback", "traceback: KeyError: 'key'"),
    ("no name", "names no file: 'not a table'"),
    ("two lines", "not one line"),
    ("memory", "memory: Unable to allocate 2.00 GiB"),
    ("hang", "the process ended: it took too much CPU time"),
    ("crash", "the process ended: SIGABRT"),
    ("exit", "the process ended: exit code 0"),
    ("silent", "silent: other values"),
])  # fmt: skip
def test_every_fault_is_found(name, complaint):
    """And the inputs after one that kills its process are run."""
    assert name in FAULTY
    failures = run(name, 0, range(3))
    assert {failure.number for failure in failures} <= {0, 1, 2}
    assert len(failures) == (0 if complaint is None else 3) or name == "silent"
    assert all(complaint in failure.what for failure in failures)
    assert (complaint is None) == (not failures)


@pytest.mark.parametrize("name", ["tiles", "region", "provenance of png", "convert cxi", "convert tiff", "plan"])
def test_a_seed_and_a_number_are_always_the_same_damage(name, tmp_path):
    """In files of every kind; most of them differ from the intact file."""
    case = Case(name, ENTRY_POINTS[name], tmp_path)
    first, second = ([case.damage(3, number) for number in range(20)] for _ in "ab")
    assert first == second
    assert sum(damaged.content != case.intact[damaged.path] for damaged in first) > 15
