"""Where a job computes: on as many threads as its rule says, on GPUs where there are any."""

import importlib
import itertools
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from ptycho import backend
from ptycho.backend import grow_memory
from ptycho.reporting.study_tables import read_cost
from ptycho.workflow.scheduler import limit_gpus, visible_gpus
from tests.workflow import ROOT, config_file, copy_of_code, run_in

WORK = {
    "BLAS": """
import numpy as np
a = np.ones((1500, 1500), dtype="float32")
work = lambda: a @ a
""",
    "TensorFlow": """
import ptycho.model, tensorflow as tf
image, kernel = tf.ones((8, 128, 128, 16)), tf.ones((3, 3, 16, 32))
work = tf.function(lambda: tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))))
""",
    "PyTorch": """
import torch
image, kernel = torch.ones((8, 16, 128, 128)), torch.ones((32, 16, 3, 3))
work = lambda: torch.fft.fft2(torch.nn.functional.conv2d(image, kernel)).abs().sum()
""",
}
MEASURE = """
import time
import psutil
def spent():
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}
work()
before, end = spent(), time.perf_counter() + 0.8
while time.perf_counter() < end:
    work()
spent = sorted((total - before.get(thread, 0) for thread, total in spent().items()), reverse=True)
print(*spent)
"""


def shares_of(library, threads):
    """Share of each thread in the CPU time of a process that asks for some threads, largest first, imports left out.

    It does not depend on how much of the machine the process gets.
    """
    limit = f"import numpy\nfrom ptycho.workflow.job import limit_threads\nlimit_threads({threads})\n"
    program = limit + WORK[library] + MEASURE
    command = [sys.executable, "-c", program]
    variables = {name: value for name, value in os.environ.items() if "NUM_" not in name}  # as set by conftest.py
    run = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, env=variables, check=False)
    assert run.returncode == 0, run.stderr
    seconds = [float(text) for text in run.stdout.split()]
    assert sum(seconds) > 0.1
    return [second / sum(seconds) for second in seconds]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("library", WORK)
def test_as_many_threads_work_as_were_asked_for(library, threads):
    if threads > (os.cpu_count() or 1):
        pytest.skip("needs two cores")
    shares = shares_of(library, threads)
    assert sum(share > 0.15 for share in shares) == threads, shares


def test_jobs_that_reconstruct_or_train_limit_their_threads_first():
    """Libraries read the number of threads when they are imported."""
    limited = []
    for path in sorted((ROOT / "scripts").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        imports = re.search(r"^from ptycho\.(model|reconstruction)\b", text, flags=re.MULTILINE)
        if "job.log_to(snakemake.log[0])" in text and imports:
            assert "\njob.limit_threads(snakemake.threads)" in text[: imports.start()], path.name
            limited.append(path.stem)
    assert {"train_network", "train_unrolled", "infer_network", "lsqml", "tv", "refined"} <= set(limited)


@pytest.mark.slow
def test_no_job_of_a_study_used_more_than_its_thread(study):
    """One thread has at most as much CPU time as the job has wall time, however busy the machine is."""
    cost, measured = study[0] / "results/tiny/cost", set()
    for path in sorted(cost.rglob("*.tsv")):
        job = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        measured.add(path.relative_to(cost).parts[0])
        assert 0.1 < job["cpu_time"] <= 1.15 * job["s"] + 0.5, path
        assert job["max_rss"] > 20, path
    assert {"simulate_scan", "view", "train", "infer", "merge", "lsqml", "compare"} <= measured


COSTLY = """
import subprocess, sys
from ptycho.workflow import job

job.measure(sys.argv[1])
burn = "import time\\nwhile time.process_time() < 1: pass"
memory = bytearray(300 * 2**20)
memory[::4096] = bytes(len(memory[::4096]))
del memory
exec(burn)
subprocess.run([sys.executable, "-c", burn], check=True)
"""
"""A job of two CPU-seconds, one of them in a child, that needs 300 MB for a moment."""


def test_a_job_measures_itself_to_its_end(tmp_path):
    """And not what the process holds that starts it."""
    held = b"x" * (700 * 2**20)
    subprocess.run([sys.executable, "-c", COSTLY, tmp_path / "cost.tsv"], check=True, cwd=ROOT)
    cost = read_cost(tmp_path / "cost.tsv")
    assert 2 <= cost["cpu_time"] < 4
    assert cost["s"] > 1.5
    assert 300 < cost["max_rss"] < 500 < len(held) / 2**20


def test_a_rule_has_a_cost_where_its_script_measures_one():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^ *(?=(?:use )?rule )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            if script := re.search(r"scripts/(\w+\.py)", rule):
                measures = "job.measure(snakemake.output.cost)" in (ROOT / "scripts" / script[1]).read_text(
                    encoding="utf-8"
                )
                assert measures == (" cost=f" in rule), rule.splitlines()[0]


class Machine:
    """`tensorflow.config` of a machine with some GPUs; `growing` are those whose memory grows."""

    def __init__(self, *gpus, in_use=()):
        self.gpus, self.in_use, self.growing = list(gpus), in_use, []
        self.experimental = SimpleNamespace(set_memory_growth=self.set_memory_growth)

    def list_physical_devices(self, kind):
        assert kind == "GPU"
        return self.gpus

    def set_memory_growth(self, gpu, enable):
        assert enable
        if gpu in self.in_use:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        self.growing.append(gpu)


@pytest.mark.parametrize(
    ("files", "named", "count"),
    [
        ((), None, 0),
        (("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"), None, 2),
        (("nvidia0", "nvidia1"), "1", 1),
        (("nvidia0",), "", 0),
        (("nvidia0",), "-1", 0),
        ((), "0", 0),
    ],
)
def test_gpus_are_counted(tmp_path, files, named, count):
    for name in files:
        (tmp_path / name).touch()
    assert visible_gpus(tmp_path, {} if named is None else {"CUDA_VISIBLE_DEVICES": named}) == count


def test_the_scheduler_hands_out_the_gpus_unless_the_user_has_limited_them():
    scheduler = SimpleNamespace(global_resources={"_cores": 4}, resources={"_cores": 4})
    limit_gpus(scheduler, 0)
    assert "gpu" not in scheduler.resources
    limit_gpus(scheduler, 2)
    assert scheduler.global_resources["gpu"] == scheduler.resources["gpu"] == 2
    limit_gpus(scheduler, 1)
    assert scheduler.resources["gpu"] == 2


@pytest.mark.slow
def test_one_training_at_a_time_on_a_machine_with_one_gpu(tmp_path):
    """Through the Snakefile, with a pretended GPU and scripts that only note when they ran."""
    views = {"dense": 0.7, "sparse": 0.2}
    code, config = copy_of_code(tmp_path), config_file(tmp_path, methods=["pinn", "baseline"], views=views)
    with (code / "ptycho/workflow/scheduler.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef visible_gpus():\n    return 1\n")
    lines = "import time\nfrom pathlib import Path\nstart = time.time()\ntime.sleep(1)\n"
    lines += "for path in snakemake.output:\n    Path(path).write_text(f'{start} {time.time()}')\n"
    for script in (code / "scripts").glob("*.py"):
        script.write_text(lines, encoding="utf-8")
    networks = itertools.product(views, ("pinn", "baseline"))
    models = [f"results/tiny/dose_100000/{view}/seed_0/{method}/model.keras" for view, method in networks]
    run_in(code, tmp_path, "--cores", "4", "--configfile", config, "--", *models)
    times = sorted([float(word) for word in (tmp_path / model).read_text("utf-8").split()] for model in models)
    assert len(times) == 4
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


@pytest.mark.parametrize("gpus", [(), ("first",), ("first", "second")])
def test_memory_grows_on_every_gpu(gpus):
    machine = Machine(*gpus)
    assert grow_memory(machine) == list(gpus)
    assert machine.growing == list(gpus)


def test_a_gpu_in_use_is_left_as_it_is():
    machine = Machine("first", "second", in_use=("first",))
    assert grow_memory(machine) == ["first", "second"]
    assert machine.growing == ["second"]


def test_tensorflow_is_handed_out_with_memory_that_grows(monkeypatch):
    """On a machine with pretended GPUs: nobody gets TensorFlow before its memory is set up."""
    machine, imported = Machine("first", "second"), []
    monkeypatch.setattr(
        importlib, "import_module", lambda name: imported.append(name) or SimpleNamespace(config=machine)
    )
    backend.tensorflow.cache_clear()
    try:
        assert backend.tensorflow().config is machine
        assert backend.tensorflow() is backend.tensorflow()
    finally:
        backend.tensorflow.cache_clear()
    assert imported == ["tensorflow"]
    assert machine.growing == ["first", "second"]


@pytest.mark.slow
def test_an_import_without_a_gpu_prints_nothing():
    """Also on a machine with GPUs, which are hidden here."""
    lines = (
        "import ptycho.model, tensorflow as tf",
        "tf.constant(1.0) + 1",
        "print(tf.config.list_physical_devices('GPU'))",
    )
    command, variables = [sys.executable, "-c", "\n".join(lines)], {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    run = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, env=variables, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
