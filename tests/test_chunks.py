"""Chunk files: bounds, merge, and what is refused."""

import itertools
import json
import weakref
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, merge_chunks, run_of
from ptycho.data.npz import map_member
from ptycho.workflow.files import ContractError
from ptycho.workflow.provenance import versions
from tests.test_canvas import assert_same, canvas_of, chunk_files, parts_of, patches_of, save_chunk


def test_chunk_bounds_cover_all_tiles_once():
    for count, chunks in itertools.product([1, 7, 100], [1, 2, 7, 100]):
        bounds = [chunk_bounds(count, i, chunks) for i in range(chunks)]
        assert [i for start, stop in bounds for i in range(start, stop)] == list(range(count))


def test_chunk_files_merge_to_the_whole(tmp_path):
    data, paths = chunk_files(tmp_path)
    merged, whole = merge_chunks(paths[::-1]), canvas_of(*data)
    np.testing.assert_allclose(merged.object, whole.mean(), rtol=1e-6)
    np.testing.assert_allclose(merged.illumination, whole.weight)
    assert merged.origin_px == whole.origin_px
    assert (merged.cpu_s, merged.chosen) == (None, {})  # the chunks say neither
    assert merged.refined is None
    for index, path in enumerate(paths):
        start, stop = chunk_bounds(10, index, 3)
        facts = {"cpu_s": 1.5 + index, "chosen": {"tv_weight": 4.0}}
        save_chunk(path, parts_of(data, start, stop), run={"tiles": 10}, tiles=[start, stop], **facts)
    merged = merge_chunks(paths)
    assert (merged.cpu_s, merged.chosen) == (1.5 + 2.5 + 3.5, {"tv_weight": 4.0})


def test_a_probe_in_the_chunks_is_that_of_the_merge(tmp_path):
    data, probe = patches_of(10), np.arange(18, dtype=np.float32).reshape(2, 3, 3) * np.complex64(1 + 2j)
    for index, wanted in enumerate((probe, probe[0, :2])):
        path = tmp_path / f"{index}.npz"
        save_parts(path, parts_of(data, 0, 10), lambda: {"run": {"tiles": 10}, "tiles": [0, 10]}, probe=wanted)
    np.testing.assert_array_equal(merge_chunks([tmp_path / "0.npz"]).refined.probe, probe)
    with pytest.raises(ContractError, match=r"1\.npz: 'probe' is complex64 with shape \(2, 3\); wanted complex"):
        merge_chunks([tmp_path / "1.npz"])


def test_the_directory_of_a_chunk_is_read_once_for_all_its_parts(tmp_path, monkeypatch):
    """The archive is opened as often for 500 parts as for 3; the arrays of at most two parts are mapped at a time."""
    opened, mapped, most = [], [], []

    def counted(*args, original=zipfile.ZipFile, **kwargs):
        opened.append(args)
        return original(*args, **kwargs)

    def tracked(*args, original=map_member):
        array = original(*args)
        mapped.append(weakref.ref(array))
        most.append(sum(reference() is not None for reference in mapped))
        return array

    monkeypatch.setattr("ptycho.workflow.archives.zipfile.ZipFile", counted)
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
    arrays = {f"{key}_{i}": np.zeros((2, 3), t) for key, t in (("sum", complex), ("weight", float)) for i in range(2)}
    arrays |= {f"origin_px_{i}": np.zeros(2, int) for i in range(2)}
    arrays[wrong] = np.zeros(5)
    metadata = {"run": {"tiles": 1}, "tiles": [0, 1], "parts": 2}
    np.savez(tmp_path / "wrong.npz", metadata=np.array(json.dumps(metadata)), **arrays)
    with pytest.raises(ContractError, match=r"wrong\.npz: sum .*\(5,\).*wanted \(H, W\) twice and \(2,\)"):
        merge_chunks([tmp_path / "wrong.npz"])


def test_a_part_without_a_place_is_refused(tmp_path):
    arrays = {"sum_0": np.zeros((2, 3), complex), "weight_0": np.ones((2, 3)), "origin_px_0": np.array([0, -(2**63)])}
    metadata = {"run": {"tiles": 1}, "tiles": [0, 1], "parts": 1}
    np.savez(tmp_path / "wrong.npz", metadata=np.array(json.dumps(metadata)), **arrays)
    with pytest.raises(ContractError, match=r"wrong\.npz: 'origin_px_0' is \[0, -9223372036854775808\]; wanted pixels"):
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


@pytest.mark.parametrize("damaged", ["model.keras", "tiles.npz"])
def test_damaged_tiles_or_models_are_named_and_no_chunk_is_blamed(tmp_path, damaged):
    """Whatever is damaged: their digest would be that of others, and every chunk one of another run."""
    paths = [tmp_path / name for name in ("model.keras", "tiles.npz")]
    for path in paths:
        np.savez(path.with_suffix(".npz"), a=np.arange(50.0))
    paths[1].with_name("model.npz").rename(paths[0])
    intact, path, refusals = run_of(*paths, 3), tmp_path / damaged, []
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[place] ^= 16
        path.write_bytes(flipped)
        try:
            assert run_of(*paths, 3) == intact  # a time stamp, for example
        except ContractError as error:
            refusals.append(str(error))
    assert len(refusals) > len(content) // 8
    assert all(f"{damaged}: " in refusal for refusal in refusals)


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
