"""Damaged files are read or refused in one line that names the file: no traceback, no hang, no other values, no bomb.

Every commit has another seed, see `seed.py`. It stands in the header of pytest, and with what fails.
"""

import sys

import pytest

from tests.fuzz.entry_points import ENTRY_POINTS, INPUTS
from tests.fuzz.faulty_readers import FAULTY
from tests.fuzz.runner import ALONE, CORPUS, Case, corpus_of, run
from tests.fuzz.seed import VARIABLE, fuzz_seed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
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
    assert_none(name, run(name, fuzz_seed(), range(INPUTS)), fuzz_seed())


@pytest.mark.long
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_many_damaged_files_are_read_or_refused(name):
    numbers = range(INPUTS, MANY * INPUTS)  # those before are run by the other test
    assert_none(name, run(name, fuzz_seed(), numbers), fuzz_seed())


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
    ("second", ALONE),
])  # fmt: skip
def test_every_fault_is_found(name, complaint):
    """And the inputs after one that kills its process are run."""
    assert name in FAULTY
    failures = run(name, 0, range(3))
    assert {failure.number for failure in failures} <= {0, 1, 2}
    assert len(failures) == (0 if complaint is None else 3) or name in ("silent", "second")
    assert all(complaint in failure.what for failure in failures)
    assert (complaint is None) == (not failures)


@pytest.mark.parametrize("name", ["tiles", "region", "provenance of png", "convert cxi", "convert tiff", "plan"])
def test_a_seed_and_a_number_are_always_the_same_damage(name, tmp_path):
    """In files of every kind; most of them differ from the intact file."""
    case = Case(name, ENTRY_POINTS[name], tmp_path)
    first, second = ([case.damage(3, number) for number in range(20)] for _ in "ab")
    assert first == second
    assert sum(damaged.content != case.intact[damaged.path] for damaged in first) > 15


def test_the_seed_is_that_of_the_commit_or_the_one_that_is_asked_for(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    fuzz_seed.cache_clear()
    assert fuzz_seed() >= 1
    monkeypatch.setenv(VARIABLE, "739582")
    assert fuzz_seed.__wrapped__() == 739582
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", "/nowhere")  # no git
    assert fuzz_seed.__wrapped__() == 1
