"""A full disk and a folder that cannot be written to: a clear message, no partial file, and the run resumes."""

import os
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

from ptycho.workflow.files import WriteError, temporary_folder
from tests.workflow import CONDITION, assert_same_arrays, jobs, output_of, snakemake

LEFT_BYTES = 500_000
"""Free space on the small disk: enough for Snakemake's own files, too little for a chunk."""


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path):
    """A small disk in memory, and a function that mounts it again with other options."""
    folder = tmp_path.resolve() / "disk"
    folder.mkdir()
    if os.geteuid():
        pytest.skip("mounts a small disk: needs root")
    run = mount("-t", "tmpfs", "-o", "size=100m", "tmpfs", folder)
    if run.returncode:
        pytest.skip(f"cannot mount a small disk: {run.stderr.strip()}")
    try:
        yield folder, lambda options: mount("-o", f"remount,{options}", folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder, left_bytes=0):
    """Fill a disk up to so many bytes; return the file that fills it."""
    path = folder / "filler"
    with path.open("wb") as file:
        size = shutil.disk_usage(folder).free - left_bytes
        file.truncate(size)
        os.posix_fallocate(file.fileno(), 0, size)
    return path


@pytest.mark.slow
@pytest.mark.ci
def test_a_full_disk_is_reported_and_the_run_resumes_when_there_is_room(study, disk):
    undisturbed, config = study
    folder, _ = disk
    for part in ("results", "logs", ".snakemake"):
        shutil.copytree(undisturbed / part, folder / part, ignore=shutil.ignore_patterns("conda*", "log"))
    condition = folder / CONDITION
    for method in ("pinn", "lsqml"):
        shutil.rmtree(condition / "test" / method)
    target = condition / "test/comparison_metrics.csv"
    target.unlink()
    arguments = ("--cores", "2", "--configfile", config, "--", target.relative_to(folder))
    filler = fill(folder, LEFT_BYTES)
    run = snakemake(folder, "--keep-going", *arguments, check=False)
    assert run.returncode
    logs = "".join(path.read_text(encoding="utf-8") for path in folder.glob("logs/tiny/**/*.log"))
    assert "its disk is full" in output_of(run) + logs
    assert "make room, then run the same command again" in output_of(run) + logs
    for path in folder.glob("results/**/*.npz"):
        with np.load(path) as arrays:  # complete or absent: each member's checksum is verified as it is read
            assert all(isinstance(arrays[name], np.ndarray) for name in arrays.files)
            assert arrays.files
    assert not [path for path in folder.glob("results/**/.*") if path.is_file()]
    filler.unlink()
    snakemake(folder, *arguments)
    assert_same_arrays(folder, undisturbed)


@pytest.mark.slow
def test_a_full_disk_stops_snakemake_with_one_line(study, disk):
    folder, _ = disk
    (folder / ".snakemake/log").mkdir(parents=True)
    filler = fill(folder)
    run = snakemake(folder, "--cores", "2", "--configfile", study[1], check=False)
    assert run.returncode
    assert "its disk is full (0.0 MB free in" in output_of(run)
    filler.unlink()
    assert jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", study[1]))["train_network"] == 1


@pytest.mark.slow
def test_results_that_cannot_be_written_stop_snakemake_with_one_line(study, disk, tmp_path):
    folder, remount = disk
    home = tmp_path / "home"
    home.mkdir()
    (home / "results").symlink_to(folder)
    remount("ro")
    arguments = ("--cores", "2", "--configfile", study[1], "--", "results/tiny/data/sample.npz")
    run = snakemake(home, *arguments, check=False)
    assert run.returncode
    assert "results/tiny: cannot be written to" in output_of(run)
    assert "Traceback" not in output_of(run)
    remount("rw")
    snakemake(home, *arguments)
    assert (folder / "tiny/data/sample.npz").exists()


def test_a_full_disk_of_temporary_files_is_named(disk, monkeypatch):
    folder, _ = disk
    fill(folder, 4096 * 8)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    message = rf"{folder}: the disk of temporary files is full .*; make room, or set TMPDIR"
    with pytest.raises(WriteError, match=message), temporary_folder() as temporary:
        (temporary / "large").write_bytes(bytes(1_000_000))
    assert not [path for path in folder.iterdir() if path.is_dir()]
