"""Files that are cut short, damaged or hostile: one line that names file and key, and nothing allocated for them."""

import io
import json
import os
import struct
import zipfile
from dataclasses import asdict

import numpy as np
import pytest

from ptycho.cli.main import main
from ptycho.data.canvas import Canvas
from ptycho.data.npz import Npz, load_arrays, open_member, save_arrays
from ptycho.data.object_files import Reconstruction, load_reconstruction, save_reconstruction
from ptycho.data.sample_files import Sample, open_sample, save_sample
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.tiles import Tile, load_tiles, save_tiles
from ptycho.data.views import View, open_view, save_view
from ptycho.scoring.region import Region
from ptycho.workflow.damage import read_json
from ptycho.workflow.files import ContractError
from ptycho.workflow.limits import VARIABLE, limited_to, max_bytes

N, COUNT = 8, 6


def write_scan(path, **changes):
    rng = np.random.default_rng(0)
    fields = {
        "xcoords": rng.uniform(N, 2 * N, COUNT),
        "ycoords": rng.uniform(N, 2 * N, COUNT),
        "probeGuess": rng.normal(size=(N, N)).astype(np.complex64),
        "objectGuess": rng.normal(size=(3 * N, 3 * N)).astype(np.complex64),
        "scan_index": np.arange(COUNT),
        "metadata": {"dose": 3},
        **changes,
    }
    with ScanWriter(path, COUNT, N, **fields) as scan:
        scan.write(rng.random((COUNT, N, N)).astype(np.float32))
    return path


def write_view(path, **changes):
    fields = {"exposures": np.arange(5), "role": np.array([0, 0, 0, 1, 2], np.int8), "nn_indices": [[0, 1], [2, 3]]}
    fields = {key: np.asarray(value) for key, value in (fields | changes).items()}
    metadata = fields.pop("metadata", {"counts": {"exposures_of_scan": COUNT}})
    save_view(path, View(**fields, metadata=metadata.item() if isinstance(metadata, np.ndarray) else metadata))
    return path


def write_tiles(path):
    core = ((-np.inf, 3.0), (-np.inf, np.inf))
    save_tiles(path, [Tile(np.arange(3), core, 4.0), Tile(np.arange(2, 5), ((3.0, np.inf), core[1]), 4.0)])
    return path


def write_object(path):
    result = Reconstruction(object=np.ones((4, 5), np.complex64), illumination=np.ones((4, 5)), origin_px=(2, 3))
    save_reconstruction(path, result, method="tv")
    return path


def write_sample(path, **changes):
    rng = np.random.default_rng(1)
    positions = {"xcoords": rng.uniform(N, 2 * N, COUNT), "ycoords": rng.uniform(N, 2 * N, COUNT)}
    obj, probe = (rng.normal(size=(side, side)).astype(np.complex64) for side in (3 * N, N))
    fields = {"object": obj, "probe": probe, **positions, "is_test": np.array([0, 0, 0, 1, 1, 1], np.int8), **changes}
    save_sample(path, Sample(**fields))
    return path


def rewritten(path, key, member, *, size=None):
    """Replace one member of an NPZ by bytes; its checksum is right."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members[f"{key}.npy"] = member
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, version=None, **header):
    """Bytes of an array, with another header than its own."""
    file = io.BytesIO()
    array = np.asarray(array)
    fields = np.lib.format.header_data_from_array_1_0(array) | header
    text = repr(fields).encode() + b"\n"
    file.write(b"\x93NUMPY" + bytes(version or (1, 0)))
    file.write(struct.pack("<H" if (version or (1, 0)) == (1, 0) else "<I", len(text)) + text + array.tobytes())
    return file.getvalue()


def scan_values(path):
    scan = open_scan(path)
    arrays = [scan.xcoords, scan.ycoords, scan.probe, scan.object[...], scan.diffraction[...]]
    return [array.tobytes() for array in arrays] + [json.dumps(scan.metadata)]


def view_values(path):
    view = open_view(path)
    return [view.exposures.tobytes(), view.role.tobytes(), view.nn_indices.tobytes(), json.dumps(view.metadata)]


def tile_values(path):
    return [(tile.exposures.tobytes(), tile.core, tile.halo_px) for tile in load_tiles(path)]


def object_values(path):
    result, metadata = load_reconstruction(path)
    return [result.object.tobytes(), result.illumination.tobytes(), result.origin_px, json.dumps(metadata)]


def sample_values(path):
    sample = open_sample(path)
    arrays = (sample.object[...], sample.probe, sample.xcoords, sample.ycoords, sample.is_test)
    return [array.tobytes() for array in arrays]


FILES = {
    "scan": (write_scan, scan_values),
    "view": (write_view, view_values),
    "tiles": (write_tiles, tile_values),
    "object": (write_object, object_values),
    "sample": (write_sample, sample_values),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bit_that_flips_is_refused_or_changes_no_value(tmp_path, kind):
    """Of a scan: outside its frames, which are read without their checksum."""
    write, values = FILES[kind]
    path = write(tmp_path / f"{kind}.npz")
    content, before = path.read_bytes(), values(path)
    skipped = range(0)
    if kind == "scan":
        frames = open_member(path, "diffraction")
        start = content.index(frames[...].tobytes())
        skipped = range(start, start + frames.nbytes)
    rng, refusals = np.random.default_rng(0), []
    places = [place for place in range(len(content)) if place not in skipped]
    for place in rng.choice(places, 150, replace=False).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert values(path) == before  # a time stamp, for example
        except ContractError as error:
            refusals.append(str(error))
    assert len(refusals) > 75
    assert all(refusal.startswith(str(path)) and "\n" not in refusal for refusal in refusals)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_short_is_refused(tmp_path, kind):
    write, values = FILES[kind]
    path = write(tmp_path / f"{kind}.npz")
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 20).astype(int).tolist():
        path.write_bytes(content[:size])
        with pytest.raises(ContractError, match=rf"{kind}.npz: not an NPZ, cut short, or damaged"):
            values(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": (COUNT + 1, N, N)}, "1792 bytes; the file has 1536"),  # its last frame would be other members
        ({"shape": (10**6, 10**3, 10**3)}, "the file has 1536"),
        ({"shape": (-COUNT, N, -N)}, r"shape \(-6, 8, -8\)"),
        ({"descr": "|V0"}, r"'diffraction' is \|V0"),
        ({"descr": "<U0"}, "'diffraction' is <U0"),
        ({"descr": "|O"}, "'diffraction' holds objects"),
        ({"fortran_order": True}, "'diffraction' holds Fortran order"),
        ({"shape": "all"}, "'diffraction' cannot be read: cut short or damaged"),
    ],
    ids=str,
)
def test_a_header_that_is_not_that_of_its_member_is_refused(tmp_path, header, message):
    path = write_scan(tmp_path / "scan.npz")
    rewritten(path, "diffraction", npy(open_member(path, "diffraction")[...], **header))
    with pytest.raises(ContractError, match=rf"scan.npz: .*{message}"):
        open_scan(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_array_format_is_read(tmp_path, version):
    path = write_scan(tmp_path / "scan.npz")
    before = scan_values(path)
    for key in ("diffraction", "xcoords", "objectGuess"):
        rewritten(path, key, npy(open_member(path, key)[...], version))
    assert scan_values(path) == before
    with pytest.raises(ContractError, match="'xcoords' cannot be read"):
        open_scan(rewritten(path, "xcoords", npy(np.zeros(COUNT), (4, 0))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"dose": -1}}, "'dose' in 'metadata' is -1; wanted a number above 0"),
        ({"metadata": {"dose": float("nan")}}, "'dose' in 'metadata' is nan"),
        ({"metadata": {"dose": "many"}}, "'dose' in 'metadata' is 'many'"),
        ({"metadata": {"dose": True}}, "'dose' in 'metadata' is True"),
        ({"metadata": ["dose"]}, r"'metadata' is .*; wanted a JSON object"),
        ({"scan_index": np.zeros(COUNT)}, "'scan_index' is float64"),
        ({"probeGuess": np.full((N, N), 1e20, np.complex64)}, "'probeGuess' has Σ"),
    ],
    ids=str,
)
def test_a_scan_that_contradicts_itself_is_refused(tmp_path, change, message):
    with pytest.raises(ContractError, match=rf"scan.npz: {message}"):
        open_scan(write_scan(tmp_path / "scan.npz", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exposures": [0, 1, 2, 3, COUNT]}, f"'exposures' has exposures 0 to {COUNT}; .*scan.npz has {COUNT}"),
        ({"exposures": [-1, 1, 2, 3, 4]}, "'exposures' has exposures -1 to 4"),
        ({"exposures": [0, 1, 2, 2, 4]}, "'exposures' is not ascending, or has an exposure twice"),
        ({"exposures": np.arange(5.0)}, "'exposures' is float64"),
        ({"role": np.array([0, 0, 0, 1, 3], np.int8)}, "'role' is int8 .*wanted one of 0 to 2"),
        ({"role": np.zeros(4, np.int8)}, "'role' is int8"),
        ({"nn_indices": [[0, 4]]}, "'nn_indices' has exposure 4, which is holdout or not in the view"),
        ({"nn_indices": [[0, 7]]}, "'nn_indices' has exposure 7, which is holdout or not in the view"),
        ({"nn_indices": [0, 1]}, "'nn_indices' is int64"),
        ({"metadata": {"counts": 3}}, "'metadata': 'counts' is 3; wanted an object"),
        ({"metadata": {"counts": {"exposures_of_scan": 9}}}, "a view of a scan of 9 exposures"),
    ],
    ids=str,
)
def test_a_view_that_does_not_fit_its_scan_is_refused(tmp_path, change, message):
    scan = open_scan(write_scan(tmp_path / "scan.npz"))
    with pytest.raises(ContractError, match=rf"view.npz: {message}"):
        open_view(write_view(tmp_path / "view.npz", **change), scan)


def test_tiles_and_samples_are_held_against_their_scan(tmp_path):
    scan = open_scan(write_scan(tmp_path / "scan.npz"))
    save_tiles(tmp_path / "tiles.npz", [Tile(np.array([COUNT]), ((0, 1), (0, 1)), 2.0)])
    with pytest.raises(ContractError, match=r"tiles.npz: 'exposures' has exposures 0 to 6; .*scan.npz has 6"):
        load_tiles(tmp_path / "tiles.npz", scan)
    arrays = {"exposures": np.arange(4), "cores": np.zeros((2, 2, 2)), "halo_px": np.zeros(2)}
    save_arrays(tmp_path / "starts.npz", **arrays, starts=np.array([0, 3, 9]))
    with pytest.raises(ContractError, match=r"starts.npz: 'starts' goes from 0 to 9; wanted ascending from 0 to 4"):
        load_tiles(tmp_path / "starts.npz")
    for change, message in (
        ({"is_test": np.full(COUNT, 2, np.int8)}, "'is_test' holds 2"),
        ({"xcoords": np.full(COUNT, 1e6)}, "'xcoords' spans 1000000"),
        ({"probe": np.ones((N, N + 2), np.complex64)}, "'probeGuess' is complex64"),
    ):
        with pytest.raises(ContractError, match=rf"sample.npz: {message}"):
            open_sample(write_sample(tmp_path / "sample.npz", **change))


def test_an_object_of_other_types_or_shapes_is_refused(tmp_path):
    good = {"object": np.ones((4, 5), np.complex64), "illumination": np.ones((4, 5)), "origin_px": np.zeros(2, int)}
    for change, message in (
        ({"object": np.ones((4, 5))}, "'object' is float64"),
        ({"illumination": np.ones((4, 4))}, r"'illumination' is float64 with shape \(4, 4\)"),
        ({"origin_px": np.array([0, 1 << 60])}, "'origin_px' is int64"),
        ({"probe": np.ones((4, 5), complex)}, "'probe' is complex128"),
        ({"metadata": '{"chosen": {"tv_weight": "much"}}'}, "'cpu_s' or 'chosen' in 'metadata'"),
        ({"metadata": "[" * 100_000}, "'metadata' is .*wanted a JSON object"),
    ):
        np.savez(tmp_path / "object.npz", **{"metadata": "{}", **good, **change})
        with pytest.raises(ContractError, match=rf"object.npz: {message}"):
            load_reconstruction(tmp_path / "object.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"its content is .*; wanted a JSON object"),
        ("{", "wanted a JSON object"),
        ('{"y0": 0, "y1": 4, "x0": 0}', "its content has no 'x1'; found y0, y1, x0"),
        ('{"y0": 0, "y1": 4.5, "x0": 0, "x1": 4}', "'y1' is 4.5; wanted an integer"),
        ('{"y0": 4, "y1": 4, "x0": 0, "x1": 4}', "wanted rows and columns from 0 on, at least one of each"),
    ],
)
def test_a_region_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "region.json").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"region.json: .*{message}"):
        Region.load(tmp_path / "region.json")
    with pytest.raises(ContractError, match=r"none.json: no such file"):
        Region.load(tmp_path / "none.json")
    (tmp_path / "good.json").write_text(json.dumps(asdict(Region(0, 4, 1, 5))), encoding="utf-8")
    assert Region.load(tmp_path / "good.json") == Region(0, 4, 1, 5)


def test_an_archive_whose_members_overlap_or_repeat_is_refused(tmp_path):
    path = tmp_path / "twice.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(np.ones(3)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", npy(np.zeros(3)))
    with pytest.raises(ContractError, match=r"twice.npz: not an NPZ, .*two members of the name 'a.npy'"):
        load_arrays(path, "a")
    save_arrays(path, a=np.ones(3), b=np.zeros(3))
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2") + 42  # where the directory says that the last member begins
    content[second : second + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"twice.npz: not an NPZ"):
        load_arrays(path, "a")


def test_what_a_file_declares_is_compared_with_the_limit_before_it_is_allocated(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(3_000_000))
    monkeypatch.setenv(VARIABLE, "0.01")
    message = r"bomb.npz: 'a' would take 0.024 GB of memory; wanted at most 0.01 GB \(--max-gb, or PTYCHO_MAX_GB"
    with pytest.raises(ContractError, match=message):
        load_arrays(tmp_path / "bomb.npz", "a")
    with Npz(tmp_path / "bomb.npz") as file:
        assert file.member("a").shape == (3_000_000,)
    with limited_to(0.03):
        assert load_arrays(tmp_path / "bomb.npz", "a")[0].sum() == 0
    assert os.environ[VARIABLE] == "0.01"
    with pytest.raises(ContractError, match=r"a canvas of 30000 × 30000 px .*: are all positions right"):
        Canvas.around(np.array([0.0, 29_936]), np.array([0.0, 29_936]), 64)
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(ValueError, match="PTYCHO_MAX_GB is much; wanted a number of gigabytes above 0"):
        max_bytes()


def test_the_limit_is_that_of_the_command(tmp_path, capsys):
    path = write_object(tmp_path / "object.npz")
    assert main(["export", str(path), str(tmp_path / "object.tif"), "--max-gb", "1e-7"]) == 2
    assert "'object' would take 1.6e-07 GB of memory; wanted at most 1e-07 GB" in capsys.readouterr().err
    assert main(["export", str(path), str(tmp_path / "object.tif"), "--max-gb", "1"]) == 0
    assert VARIABLE not in os.environ


def test_pipes_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ContractError, match=r"pipe.npz: no file, but a device or pipe"):
        open_scan(tmp_path / "pipe.npz")
    with pytest.raises(ContractError, match="a folder; wanted a file"):
        read_json(tmp_path)


def test_a_scan_that_is_cut_while_it_is_read_is_named(tmp_path):
    """No signal ends the process: the file is asked for every row, and its size before a part of it is mapped."""
    path = write_scan(tmp_path / "scan.npz")
    scan = open_scan(path)
    read = [scan.object[2:5, 3:6]]
    os.truncate(path, 300)
    for key, index in (("diffraction", 5), ("diffraction", slice(4, 6)), ("object", (slice(2, 5), slice(3, 6)))):
        with pytest.raises(ContractError, match=r"scan.npz: '\w+' is cut short: \d+ of its \d+ bytes are missing"):
            read.append(getattr(scan, key)[index])


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(1, 4), slice(None, None, 2), slice(4, 1, -1), slice(3, 3), [3, 1, 1, 2], np.array([-1, 0]), ...,
     np.array([True, False, True, False, True, False]), (slice(1, 3), slice(2, 5), 4), (0, slice(None), slice(1, 2)),
     np.zeros(0, int), np.array([[0, 1], [2, 3]])],
    ids=str,
)  # fmt: skip
def test_an_array_in_a_file_is_indexed_as_in_memory(tmp_path, index):
    frames = np.random.default_rng(0).random((COUNT, 5, 7)).astype(">f4")
    save_arrays(tmp_path / "a.npz", a=frames)
    array = open_member(tmp_path / "a.npz", "a")
    np.testing.assert_array_equal(array[index], frames[index])
    assert array[index].shape == frames[index].shape
    for wrong in (COUNT, [0, -COUNT - 1], np.ones(COUNT + 1, bool)):
        with pytest.raises(IndexError):
            array[wrong]
