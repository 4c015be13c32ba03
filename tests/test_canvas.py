"""Canvases, their chunks and merge."""

import itertools
import json
import signal
import subprocess
import sys
import weakref
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptycho.data.canvas import Canvas, merge, save_parts
from ptycho.data.chunks import chunk_bounds, merge_chunks
from ptycho.data.npz import map_member
from ptycho.physics.forward import cut_patches
from ptycho.workflow.files import ContractError
from ptycho.workflow.provenance import versions

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


def test_chunk_bounds_cover_all_tiles_once():
    for count, chunks in itertools.product([1, 7, 100], [1, 2, 7, 100]):
        bounds = [chunk_bounds(count, i, chunks) for i in range(chunks)]
        assert [i for start, stop in bounds for i in range(start, stop)] == list(range(count))


def chunk_files(folder, count=10, chunks=3, **run):
    data, paths = patches_of(count), []
    for index in range(chunks):
        start, stop = chunk_bounds(count, index, chunks)
        path = folder / f"{index + 1}of{chunks}.npz"
        save_chunk(path, parts_of(data, start, stop), run={"tiles": count, **run}, tiles=[start, stop])
        paths.append(path)
    return data, paths


def test_chunk_files_merge_to_the_whole(tmp_path):
    data, paths = chunk_files(tmp_path)
    merged, whole = merge_chunks(paths[::-1]), canvas_of(*data)
    np.testing.assert_allclose(merged.object, whole.mean(), rtol=1e-6)
    np.testing.assert_allclose(merged.illumination, whole.weight)
    assert merged.origin_px == whole.origin_px
    assert (merged.cpu_s, merged.chosen) == (None, {})  # the chunks say neither
    for index, path in enumerate(paths):
        start, stop = chunk_bounds(10, index, 3)
        facts = {"cpu_s": 1.5 + index, "chosen": {"tv_weight": 4.0}}
        save_chunk(path, parts_of(data, start, stop), run={"tiles": 10}, tiles=[start, stop], **facts)
    merged = merge_chunks(paths)
    assert (merged.cpu_s, merged.chosen) == (1.5 + 2.5 + 3.5, {"tv_weight": 4.0})


def test_the_directory_of_a_chunk_is_read_once_for_all_its_parts(tmp_path, monkeypatch):
    """The archive is opened as often for 500 parts as for 3; the arrays of at most two parts are mapped at a time."""
    opened, mapped, most = [], [], []

    def counted(*args, original=zipfile.ZipFile, **kwargs):
        opened.append(args)
        return original(*args, **kwargs)

    def tracked(*args, original=map_member):
        array = original(*args)
        mapped.append(weakref.ref(array.memmap))
        most.append(sum(reference() is not None for reference in mapped))
        return array

    monkeypatch.setattr("ptycho.data.npz.zipfile.ZipFile", counted)
    monkeypatch.setattr("ptycho.data.canvas.map_member", tracked)
    openings = []
    for count in (3, 500):
        data, path = patches_of(count), tmp_path / f"{count}.npz"
        save_chunk(path, parts_of(data, 0, count), run={"tiles": count}, tiles=[0, count])
        opened.clear()
        merged = merge_chunks([path])
        openings.append(len(opened))
        np.testing.assert_allclose(merged.illumination, canvas_of(*data).weight)
    assert openings[1] == openings[0] < 12
    assert len(mapped) == 2 * 2 * 503  # sum and weight, twice
    assert max(most) <= 4


@pytest.mark.parametrize("wrong", ["sum_1", "weight_1", "origin_px_1"])
def test_parts_that_are_no_canvases_are_refused_before_any_is_opened(tmp_path, wrong):
    arrays = {f"{key}_{i}": np.zeros((2, 3)) for key in ("sum", "weight") for i in range(2)}
    arrays |= {f"origin_px_{i}": np.zeros(2, int) for i in range(2)}
    arrays[wrong] = np.zeros(5)
    metadata = {"run": {"tiles": 1}, "tiles": [0, 1], "parts": 2}
    np.savez(tmp_path / "wrong.npz", metadata=np.array(json.dumps(metadata)), **arrays)
    with pytest.raises(ContractError, match=r"wrong\.npz: sum .*\(5,\).*wanted \(H, W\) twice and \(2,\)"):
        merge_chunks([tmp_path / "wrong.npz"])


def test_merge_refuses_what_does_not_belong(tmp_path):
    _, paths = chunk_files(tmp_path, model="a")
    (tmp_path / "other").mkdir()
    _, others = chunk_files(tmp_path / "other", model="b")
    with pytest.raises(ContractError, match="3of3"):
        merge_chunks([*paths[:2], others[2]])
    with pytest.raises(ContractError, match="tiles 6 to 10 are in no chunk: one is missing after"):
        merge_chunks(paths[:2])
    with pytest.raises(ContractError, match="3of3"):
        merge_chunks([paths[0], paths[2]])
    with pytest.raises(ContractError, match=r"2of3.*: holds tiles 3 to 6, some of which .*holds too"):
        merge_chunks([*paths, paths[1]])
    with pytest.raises(ContractError, match=r"1of3.*another model \(a; .*is of b"):  # the odd one, even if it is first
        merge_chunks([paths[0], *others[1:]], {"tiles": 10, "model": "b"})
    with pytest.raises(ContractError, match=r"1of3.*another number of tiles \(10; .*is of 11\): delete it"):
        merge_chunks(paths, {"tiles": 11})
    save_chunk(tmp_path / "plain.npz", parts_of(patches_of(3), 0, 3))
    with pytest.raises(ContractError, match=r"plain\.npz: .*wanted a chunk"):
        merge_chunks([tmp_path / "plain.npz"])
    metadata = {"run": {"tiles": 1}, "tiles": [0, 1]}
    np.savez(tmp_path / "sum.npz", metadata=np.array(json.dumps(metadata)))
    with pytest.raises(ContractError, match=r"sum\.npz: no 'parts' in its metadata; wanted the canvases of a chunk"):
        merge_chunks([tmp_path / "sum.npz"])


@pytest.mark.parametrize("version", ["0.1.3", "0.2.0rc1"])
def test_a_chunk_of_another_version_is_refused_with_what_to_do(tmp_path, version):
    parts, facts = parts_of(patches_of(3), 0, 3), {"provenance": {"versions": {"ptycho": version}}}
    save_chunk(tmp_path / "old.npz", parts, run={"tiles": 3, "model": "a"}, tiles=[0, 3], **facts)
    with pytest.raises(
        ContractError, match=rf"another model .*; written by ptycho {version}: delete it and run again$"
    ):
        merge_chunks([tmp_path / "old.npz"], {"model": "b"})
    save_chunk(tmp_path / "older.npz", parts, run={"groups": 3}, groups=[0, 3], **facts)
    with pytest.raises(ContractError, match=rf"no 'run' and 'tiles' .*; written by ptycho {version}: delete it"):
        merge_chunks([tmp_path / "older.npz"])


def test_a_chunk_of_this_version_has_no_hint_of_another(tmp_path):
    parts, facts = parts_of(patches_of(3), 0, 3), {"provenance": {"versions": versions("ptycho")}}
    save_chunk(tmp_path / "new.npz", parts, run={"tiles": 3, "model": "a"}, tiles=[0, 3], **facts)
    with pytest.raises(ContractError, match=r"another model \(a; the wanted run is of b\): delete it and run again$"):
        merge_chunks([tmp_path / "new.npz"], {"model": "b"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_chunk_is_refused_by_name_or_harmless(tmp_path, data):
    _, paths = chunk_files(tmp_path, model="a")
    whole, size = merge_chunks(paths), paths[1].stat().st_size
    content = bytearray(paths[1].read_bytes())
    if data.draw(st.booleans()):
        paths[1].write_bytes(content[: data.draw(st.integers(0, size - 1))])
        with pytest.raises(ContractError, match="2of3"):
            merge_chunks(paths)
        return
    content[data.draw(st.integers(0, size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    paths[1].write_bytes(content)
    refusal, merged = merge_or_refuse(paths)
    if refusal is None:  # a bit of the archive that is not read, such as a time stamp
        assert_same(merged, whole)
    else:
        assert "2of3" in refusal


def merge_or_refuse(paths):
    try:
        return None, merge_chunks(paths)
    except ContractError as error:
        return str(error), None


def test_a_missing_chunk_is_named(tmp_path):
    _, paths = chunk_files(tmp_path)
    paths[1].unlink()
    with pytest.raises(ContractError, match=r"2of3.npz: no such file"):
        merge_chunks(paths)
