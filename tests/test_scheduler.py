"""The estimate of the time to completion."""

import logging

import pytest

from ptycho.workflow.scheduler import EtaHandler
from tests.workflow import config_file, snakemake


@pytest.mark.parametrize(
    ("done", "elapsed_s", "message"),
    [
        (4, 20, "4 jobs done, 6 left, roughly 30 s to go"),
        (1, 60, "1 jobs done, 9 left, roughly 9 min to go"),
        (1, 3600, "1 jobs done, 9 left, roughly 9.0 h to go"),
        (0, 5, ""),
        (10, 60, ""),
    ],
)
def test_the_estimate_extrapolates_the_pace_so_far(capsys, done, elapsed_s, message):
    times = iter([0.0, elapsed_s])
    handler = EtaHandler(lambda: next(times))
    handler.emit(logging.makeLogRecord({"event": "progress", "done": done, "total": 10}))
    handler.emit(logging.makeLogRecord({"msg": "anything else"}))
    assert capsys.readouterr().err.strip() == message


@pytest.mark.slow
def test_a_run_prints_the_estimate_and_a_quiet_one_does_not(tmp_path):
    config = config_file(tmp_path)
    target = "results/tiny/data/sample.png"
    run = snakemake(tmp_path, "--cores", "1", "--configfile", config, "--", target)
    assert "1 jobs done, 1 left, roughly" in run.stderr
    again = ("--cores", "1", "--configfile", config, "--forceall", "--quiet", "--", target)
    assert "to go" not in snakemake(tmp_path, *again).stderr
