"""Readers with every fault that the fuzz tests have to find, to test them with."""

import os
import time

import numpy as np

from ptycho.workflow.files import ContractError
from tests.fuzz.entry_points import EntryPoint
from tests.fuzz.readers import Refused


def write(folder):
    (folder / "a.txt").write_text("intact", encoding="utf-8")
    return folder / "a.txt"


def reader(answer, **limits):
    """A reader that gives an answer to every file but the intact one."""

    def read(folder):
        content = (folder / "a.txt").read_bytes()
        return content if content == b"intact" else answer(content)

    return EntryPoint(write, read, **limits)


def refuse(message, kind=ContractError):
    raise kind(message)


def loop(content):
    end = time.process_time() + 60
    while time.process_time() < end:
        pass


SEEN = []
"""Files that a process has read."""


def fail_at_the_second(content):
    SEEN.append(content)
    if len(SEEN) > 1:
        raise KeyError("key")


FAULTY = {
    "refuses": reader(lambda content: refuse("a.txt: no table; wanted one")),
    "reads": reader(lambda content: None),
    "traceback": reader(lambda content: {}["key"]),
    "no name": reader(lambda content: refuse("not a table")),
    "two lines": reader(lambda content: refuse("a.txt: not a table\nsorry", Refused)),
    "memory": reader(lambda content: np.ones(1 << 28)),
    "hang": reader(loop, cpu_s=0.2),
    "crash": reader(lambda content: os.abort()),
    "exit": reader(lambda content: os._exit(0)),
    "silent": reader(lambda content: content, has_checksums=True),
    "second": reader(fail_at_the_second),
}
"""Fault -> a reader that has it; the first two have none."""
