"""A full disk and a folder that cannot be written to: a clear word, nothing half-written, and on it goes with room."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from tests.workflow import assert_same_arrays, jobs, snakemake

SPARE = 500_000
"""Bytes that are left on the small disk: enough for Snakemake's own files, too few for a chunk."""


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, in memory, and a function that mounts it anew with other options."""
    place = tmp_path.resolve() / "disk"
    place.mkdir()
    if os.geteuid():
        pytest.skip("mounts a small disk: needs root")
    run = mount("-t", "tmpfs", "-o", "size=100m", "tmpfs", place)
    if run.returncode:
        pytest.skip(f"cannot mount a small disk: {run.stderr.strip()}")
    try:
        yield place, lambda options: mount("-o", f"remount,{options}", place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place, spare=0):
    """Leave so many bytes on a disk."""
    path = place / "filler"
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        left = shutil.disk_usage(place).free - spare
        file.truncate(left)
        os.posix_fallocate(file.fileno(), 0, left)
    return path


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(study, disk):
    undisturbed, config = study
    place, _ = disk
    for part in ("results", "logs", ".snakemake"):
        shutil.copytree(undisturbed / part, place / part, ignore=shutil.ignore_patterns("conda*", "log"))
    condition = place / "results/tiny/dose_100000/dense/seed_0"
    for method in ("pinn", "lsqml"):
        shutil.rmtree(condition / "test" / method)
    target = condition / "test/comparison_metrics.csv"
    target.unlink()
    arguments = ("--cores", "2", "--configfile", config, "--", target.relative_to(place))
    filler = fill(place, SPARE)
    run = snakemake(place, "--keep-going", *arguments, check=False)
    assert run.returncode
    said = run.stdout + run.stderr + "".join(path.read_text() for path in place.glob("logs/tiny/**/*.log"))
    assert "its disk is full" in said
    assert "make room, then run the same command again" in said
    for path in place.glob("results/**/*.npz"):
        with np.load(path) as arrays:  # whole, or not there
            assert all(arrays[name].size for name in arrays.files)
    assert not [path for path in place.glob("results/**/.*") if path.is_file()]
    filler.unlink()
    snakemake(place, *arguments)
    assert_same_arrays(place, undisturbed)


@pytest.mark.slow
def test_a_disk_without_any_room_stops_snakemake_with_one_line(study, disk):
    place, _ = disk
    (place / ".snakemake/log").mkdir(parents=True)
    filler = fill(place)
    run = snakemake(place, "--cores", "2", "--configfile", study[1], check=False)
    assert run.returncode
    assert "its disk is full (0.0 MB free in" in run.stdout + run.stderr
    filler.unlink()
    assert jobs(snakemake(place, "-n", "--cores", "2", "--configfile", study[1]))["train"] == 4


@pytest.mark.slow
def test_results_that_cannot_be_written_stop_snakemake_with_one_line(study, disk, tmp_path):
    place, remount = disk
    home = tmp_path / "home"
    home.mkdir()
    (home / "results").symlink_to(place)
    remount("ro")
    arguments = ("--cores", "2", "--configfile", study[1], "--", "results/tiny/data/sample.npz")
    run = snakemake(home, *arguments, check=False)
    assert run.returncode
    assert "results/tiny: cannot be written to" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    remount("rw")
    snakemake(home, *arguments)
    assert (place / "tiny/data/sample.npz").exists()
