"""Programs that jobs run; what kills and interrupts do to whole studies is in test_crashes.py."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ptycho.workflow.processes import run
from tests.workflow import ROOT


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")
def test_a_program_started_by_a_job_dies_with_it(tmp_path):
    assert run([sys.executable, "-c", "print(1)"], capture_output=True, text=True, check=True).stdout == "1\n"
    file = tmp_path / "pid"
    program = f"from ptycho.workflow.processes import run\nrun(['sh', '-c', 'echo $$ > {file}; exec sleep 60'])"

    def wait_for(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as job:
        wait_for(lambda: file.exists() and file.read_text("utf-8").endswith("\n"))
        child = int(file.read_text("utf-8"))
        os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
