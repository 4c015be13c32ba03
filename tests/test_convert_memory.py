"""A conversion is streamed: its memory does not grow with the scan."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from ptycho.data.scan import open_scan
from tests.raw_scans import measurement

N, BLOCK = 128, 256
PROGRAM = """
import sys
from ptycho.cli.main import main
code = main(sys.argv[1:])
status = open("/proc/self/status", encoding="utf-8").read()
print("peak", status.split("VmHWM:")[1].split()[0])
sys.exit(code)
"""
"""Runs a command, and prints the largest resident memory of its process [kB]."""


def write_counts(path, gigabytes):
    """Write HDF5 of uint32 counts: 2 GB that are repeated, if it is to be more; return the number of frames."""
    one = measurement(N, BLOCK, np.uint32)
    blocks, repeats = int(2e9 / one["intensity"].nbytes), gigabytes // 2
    count = blocks * BLOCK
    side = int(np.ceil(np.sqrt(repeats * count)))
    y, x = (8.0 * axis.ravel()[: repeats * count] for axis in np.mgrid[:side, :side])
    with h5py.File(path.with_name("frames.h5"), "w") as file:
        frames = file.create_dataset("counts", (count, N, N), np.uint32, chunks=(1, N, N))
        for block in range(blocks):
            frames[block * BLOCK : (block + 1) * BLOCK] = np.roll(one["intensity"], block, axis=0)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((repeats * count, N, N), np.uint32)
        for repeat in range(repeats):  # as large to read, but not on the disk
            layout[repeat * count : (repeat + 1) * count] = h5py.VirtualSource("frames.h5", "counts", (count, N, N))
        file.create_virtual_dataset("counts", layout)
        file.update({"xcoords": x, "ycoords": y, "probe": one["probe"]})
    return repeats * count


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", [pytest.param(2, marks=pytest.mark.ci), pytest.param(20, marks=pytest.mark.long)])
def test_the_peak_of_resident_memory_is_below_a_gigabyte(tmp_path, gigabytes):
    """22 GB of disk for the long one."""
    source, destination = tmp_path / "raw.h5", tmp_path / "scan.npz"
    count = write_counts(source, gigabytes)
    command = [sys.executable, "-c", PROGRAM, "convert", str(source), str(destination)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) < 1e6
    scan = open_scan(destination)
    assert len(scan) == count
    with h5py.File(source) as file:
        for exposure in (0, count // 2, count - 1):
            np.testing.assert_allclose(scan.diffraction[exposure] ** 2, file["counts"][exposure], rtol=1e-5)
    for path in (source, source.with_name("frames.h5"), destination):
        path.unlink()
