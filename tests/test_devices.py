"""Where a job computes: threads as many as its rule says, GPUs where there are any."""

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from ptycho.backend import grow_memory, multiplies_bfloat16
from ptycho.workflow.scheduler import limit_gpus, visible_gpus
from tests.workflow import ROOT, config_file, copy_of_the_house, run_in

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
before, wall = spent(), time.perf_counter()
while time.perf_counter() - wall < 1.5:
    work()
wall = time.perf_counter() - wall
cpu = sorted((total - before.get(thread, 0) for thread, total in spent().items()), reverse=True)
print(sum(cpu) / wall, cpu[1] / sum(cpu) if cpu[1:] else 0)
"""


def load_of(library, threads):
    """A process that asks for some threads, its imports left out.

    Returns
    -------
    load : float
        CPU time over wall time.
    second : float
        The second busiest thread's share of the CPU time, 0 to 1/2: it does not depend on what else the machine does.
    """
    program = f"from ptycho.workflow.job import limit_threads\nlimit_threads({threads})\n{WORK[library]}{MEASURE}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    return map(float, run.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("library", WORK)
def test_one_thread_means_one_cpu(library):
    load, second = load_of(library, 1)
    assert load <= 1.15
    assert second < 0.15


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize("library", WORK)
def test_two_threads_mean_up_to_two_cpus(library):
    load, second = load_of(library, 2)
    assert load <= 2.15
    assert second > 0.3


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


def test_trainings_share_out_the_gpus_unless_the_user_says_how():
    scheduler = SimpleNamespace(global_resources={"_cores": 4}, resources={"_cores": 4})
    limit_gpus(scheduler, 0)
    assert "gpu" not in scheduler.resources
    limit_gpus(scheduler, 2)
    assert scheduler.global_resources["gpu"] == scheduler.resources["gpu"] == 2
    limit_gpus(scheduler, 1)
    assert scheduler.resources["gpu"] == 2


@pytest.mark.slow
def test_one_training_at_a_time_on_a_machine_with_one_gpu(tmp_path):
    """Through the Snakefile: a pretended GPU, scripts that only say when they ran."""
    house, config = copy_of_the_house(tmp_path), config_file(tmp_path)
    with (house / "ptycho/gpus.py").open("a") as file:
        file.write("\n\ndef visible_gpus():\n    return 1\n")
    lines = "import time\nfrom pathlib import Path\nstart = time.time()\ntime.sleep(1)\n"
    lines += "for path in snakemake.output:\n    Path(path).write_text(f'{start} {time.time()}')\n"
    for script in (house / "scripts").glob("*.py"):
        script.write_text(lines)
    networks = itertools.product(("dense", "sparse"), ("pinn", "baseline"))
    models = [f"results/tiny/dose_100000/{view}/seed_0/{method}/model.keras" for view, method in networks]
    run_in(house, tmp_path, "--cores", "4", "--configfile", config, "--", *models)
    times = sorted([float(word) for word in (tmp_path / model).read_text().split()] for model in models)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


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
    assert asking == [{"train", "train_unrolled", "refined"}] * 2


@pytest.mark.parametrize(
    ("gpus", "flags", "wanted"),
    [
        ([], "flags : avx2 fma", False),
        ([], "flags : avx512f avx512_bf16", True),
        ([], None, False),
        (["one"], None, True),
    ],
)
def test_products_in_bfloat16_are_detected(tmp_path, gpus, flags, wanted):
    path = tmp_path / "cpuinfo"
    if flags:
        path.write_text(flags)
    machine = SimpleNamespace(list_physical_devices=lambda kind: gpus)
    assert multiplies_bfloat16(machine, str(path)) == wanted
