"""Jobs that hold all frames: what they say before they start, and what their rules ask for."""

import re

import psutil
import pytest

from ptycho.workflow import memory
from ptycho.workflow.memory import BASE_BYTES, MemoryLimitError, claim_memory, copies_mb, needed_bytes
from tests.workflow import ROOT

SCAN = 100_000, 128, 96
"""6.6 GB of frames, in batches of 96 waves."""
NEEDED = needed_bytes(*SCAN)


@pytest.mark.parametrize(("has", "free", "levels"), [(2, 2, ["INFO"]), (2, 0.5, ["INFO", "WARNING"])])
def test_what_a_job_needs_is_said_before_it_starts(monkeypatch, log, has, free, levels):
    monkeypatch.setattr(memory, "machine_bytes", lambda: has * NEEDED)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": free * NEEDED}))
    claim_memory("LSQML", *SCAN)
    assert [record.levelname for record in log.records] == levels
    frames = "5 copies of 100,000 frames of 128 × 128 px, 6.55 GB each, and 0.915 GB"
    needs = f"LSQML needs about 33.7 GB of memory: {frames}"
    assert log.messages[0] == needs
    assert all("of which 16.8 GB are free" in message for message in log.messages[1:])


def test_a_job_that_needs_more_than_the_machine_has_is_refused(monkeypatch, log):
    monkeypatch.setattr(memory, "machine_bytes", lambda: NEEDED - 1_000_000_000)
    with pytest.raises(
        MemoryLimitError, match=r"the reference needs 33\.7 GB of memory .*, of which there are 32\.7 GB"
    ):
        claim_memory("the reference", *SCAN)
    assert not log.records


def test_rules_ask_for_no_less_than_their_jobs_say():
    """Of a scan of any size, all of whose frames are used; the rules' own amounts are enough up to 256 px."""
    rules = "".join((ROOT / f"rules/{name}.smk").read_text(encoding="utf-8") for name in ("generate", "reconstruct"))
    holding = re.findall(r"rule (\w+):(?:(?!rule \w+:).)*?holding_frames\((\d+)\)", rules, flags=re.DOTALL)
    jobs = {
        path.stem for path in (ROOT / "scripts").glob("*.py") if "claim_memory(" in path.read_text(encoding="utf-8")
    }
    assert {name for name, _ in holding} == jobs == {"lsqml", "reference", "refine_reference"}
    for name, amount in holding:
        for count, n in ((300, 64), (1000, 128), (100_000, 128), (20_000, 256)):
            asked_mb = int(amount) + copies_mb(4 * count * n**2 / 1e6)
            assert asked_mb >= needed_bytes(count, n, 96) / 1e6 > BASE_BYTES / 1e6, name
