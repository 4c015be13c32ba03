"""Canvases and their merge, in memory and in files."""

import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho.data.canvas import Canvas, merge, save_parts
from ptycho.data.chunks import chunk_bounds, merge_chunks
from ptycho.physics.forward import cut_patches

N = 8


def patches_of(count, seed=0):
    """Patches of one phase, which a merge does not change."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(4, 40, (2, count))
    patches = rng.random((count, N, N)) * np.exp(0.5j)
    return patches, rng.random((count, N, N)), x, y


def canvas_of(patches, weights, x, y, folder=None):
    canvas = Canvas.around(x, y, N, folder)
    canvas.add(patches, weights, x, y)
    return canvas


def parts_of(data, start, stop):
    """A canvas of each patch."""
    return [canvas_of(*(array[number : number + 1] for array in data)) for number in range(start, stop)]


def save_chunk(path, parts, **metadata):
    save_parts(path, parts, lambda: metadata)


def assert_same(first, second):
    np.testing.assert_array_equal(first.object, second.object)
    np.testing.assert_array_equal(first.illumination, second.illumination)
    assert first.origin_px == second.origin_px


def test_true_patches_give_the_object_back():
    rng = np.random.default_rng(0)
    obj = (rng.normal(size=(50, 60)) + 1j * rng.normal(size=(50, 60))).astype(np.complex64)
    x, y = rng.uniform(4, 55, 300), rng.uniform(4, 45, 300)
    canvas = canvas_of(cut_patches(obj, x, y, N), rng.random((300, N, N)) + 0.1, x, y)
    top, left = canvas.origin_px
    seen = canvas.weight > 0
    whole = obj[top : top + seen.shape[0], left : left + seen.shape[1]]
    np.testing.assert_allclose(canvas.mean()[seen], whole[seen], rtol=1e-5)
    assert (canvas.mean(fill=3)[~seen] == 3).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), chunks=st.integers(1, 50), seed=st.integers(0, 99))
def test_chunks_are_not_visible_in_the_result(count, chunks, seed):
    data = patches_of(count, seed)
    whole = canvas_of(*data)
    parts = []
    for index in range(chunks):
        start, stop = chunk_bounds(count, index, chunks)
        empty = Canvas(np.zeros((0, 0), complex), np.zeros((0, 0)), (0, 0))
        parts.append(canvas_of(*(array[start:stop] for array in data)) if stop > start else empty)
    order = np.random.default_rng(seed).permutation(chunks)
    merged = merge([lambda part=parts[i]: part for i in order])
    assert merged.origin_px == whole.origin_px
    np.testing.assert_allclose(merged.total, whole.total, atol=1e-12)
    np.testing.assert_allclose(merged.weight, whole.weight, atol=1e-12)


def test_a_canvas_in_a_file_is_the_same_to_the_bit(tmp_path):
    (_, paths), data = chunk_files(tmp_path, count=30), patches_of(200)
    memory, file = canvas_of(*data), canvas_of(*data, folder=tmp_path)
    assert isinstance(file.total, np.memmap)
    np.testing.assert_array_equal(file.total, memory.total)
    np.testing.assert_array_equal(file.weight, memory.weight)
    np.testing.assert_array_equal(file.mean(), memory.mean())
    save_chunk(tmp_path / "file.npz", [file], run={"tiles": 1}, tiles=[0, 1])
    save_chunk(tmp_path / "memory.npz", [memory], run={"tiles": 1}, tiles=[0, 1])
    members = []
    for name in ("file", "memory"):
        with zipfile.ZipFile(tmp_path / f"{name}.npz") as archive:
            members.append({member: archive.read(member) for member in archive.namelist()})
    assert members[0] == members[1]
    assert_same(merge_chunks(paths, folder=tmp_path), merge_chunks(paths))
    assert len(list(tmp_path.iterdir())) == len(paths) + 2  # canvases' files have no names


PEAK = """
import sys
from pathlib import Path
import numpy as np
from ptycho.data.chunks import merge_chunks
from ptycho.data.canvas import Canvas, save_parts
from ptycho.data.object_files import save_reconstruction

folder = Path(sys.argv[1]) if sys.argv[1] else None
n = 64
y, x = (a.ravel() for a in np.meshgrid(np.arange(32, 16_000, 32.0), np.arange(32, 330, 32.0), indexing="ij"))
patches = np.ones((250, n, n), np.complex64)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def parts():
    for start in range(0, len(x), 250):
        some = slice(start, start + 250)
        canvas = Canvas.around(x[some], y[some], n)
        canvas.add(patches[: len(x[some])], np.broadcast_to(1.0, (len(x[some]), n, n)), x[some], y[some])
        yield canvas

before, count = peak(), 20
save_parts(sys.argv[2], parts(), lambda: {"run": {"tiles": count}, "tiles": [0, count]})
chunk = peak()
result = merge_chunks([sys.argv[2]], folder=folder)
save_reconstruction(sys.argv[3], result)
pixels = result.object.size
print((chunk - before) / pixels, (peak() - before) / pixels)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_neither_a_chunk_nor_a_merge_holds_its_canvas(tmp_path):
    """Peak resident bytes a pixel, in a process of its own: 24 for a canvas in memory; 8 and 4 for an object file."""

    def peaks(folder):
        command = [sys.executable, "-c", PEAK, folder, tmp_path / "1of1.npz", tmp_path / "object.npz"]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        return [float(number) for number in run.stdout.split()]

    assert peaks("")[1] > 20  # the measurement sees a canvas in memory
    chunk, merged = peaks(tmp_path)
    assert chunk < 6
    assert merged < 12 + 6


def test_a_killed_process_leaves_nothing_of_its_canvas(tmp_path):
    code = """
import os, signal, sys
import numpy as np
from ptycho.data.canvas import Canvas
canvas = Canvas.around(np.array([32.0, 900.0]), np.array([32.0, 900.0]), 64, sys.argv[1])
canvas.add(np.ones((1, 64, 64)), np.ones((1, 64, 64)), np.array([32.0]), np.array([32.0]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


def chunk_files(folder, count=10, chunks=3, **run):
    data, paths = patches_of(count), []
    for index in range(chunks):
        start, stop = chunk_bounds(count, index, chunks)
        path = folder / f"{index + 1}of{chunks}.npz"
        save_chunk(path, parts_of(data, start, stop), run={"tiles": count, **run}, tiles=[start, stop])
        paths.append(path)
    return data, paths
