"""Where a job computes: threads as many as its rule says, GPUs where there are any."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from ptycho.model.devices import grow_memory
from tests.workflow import ROOT

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
work()
wall, cpu, times = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - wall < 1.5:
    work()
print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""


def load_of(library, threads):
    """CPU time over wall time of a process that asks for some threads, its imports left out."""
    program = f"from ptycho.log import limit_threads\nlimit_threads({threads})\n{WORK[library]}{MEASURE}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("library", WORK)
def test_one_thread_means_one_cpu(library):
    assert 0.5 < load_of(library, 1) <= 1.15


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize("library", WORK)
def test_two_threads_mean_up_to_two_cpus(library):
    assert 1.15 < load_of(library, 2) <= 2.15


@pytest.mark.slow
def test_no_job_of_a_study_used_more_than_its_thread(study):
    paths = sorted((study[0] / "results/tiny/cost").rglob("*.tsv"))
    assert paths
    for path in paths:
        job = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        assert not job["cpu_time"] > 1.15 * job["s"] + 0.5, path  # NaN: it was over before it was looked at


class Machine:
    """TensorFlow's config, of a machine with some GPUs."""

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


@pytest.mark.parametrize("gpus", [(), ("one",), ("one", "two")])
def test_memory_grows_on_every_gpu(gpus):
    machine = Machine(*gpus)
    assert grow_memory(machine) == list(gpus)
    assert machine.growing == list(gpus)


def test_a_gpu_in_use_is_left_as_it_is():
    machine = Machine("one", "two", in_use=("one",))
    assert grow_memory(machine) == ["one", "two"]
    assert machine.growing == ["two"]


@pytest.mark.slow
def test_nothing_complains_where_there_is_no_gpu():
    lines = (
        "import ptycho.model, tensorflow as tf",
        "tf.constant(1.0) + 1",
        "print(tf.config.list_physical_devices('GPU'))",
    )
    program = "\n".join(lines)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    if run.stdout.startswith("[]"):
        assert run.stderr == ""


def test_the_same_rules_ask_for_a_gpu_everywhere():
    asking = []
    for name in ("default", "slurm"):
        needs = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())["set-resources"]
        asking.append({rule for rule, need in needs.items() if need.get("gpu")})
    assert asking == [{"train", "train_unrolled", "refine"}] * 2
