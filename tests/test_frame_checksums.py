"""Frames of a scan are held against their checksums when they are read, each once, whatever reads them."""

import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.npz import load_arrays, save_arrays
from ptycho.data.scan import ScanWriter, detected_photons, open_scan
from ptycho.loader import open_groups
from ptycho.reconstruction.counts import Counts
from ptycho.workflow.files import ContractError
from tests.conftest import view_of
from tests.raw_scans import convert, measurement
from tests.small_files import npy, rewritten

COUNT, N = 7, 40


def write(path, **changes):
    """A scan whose frames are longer than what is read of an archive at a time."""
    rng = np.random.default_rng(0)
    fields = {key: rng.uniform(N, 2 * N, COUNT) for key in ("xcoords", "ycoords")}
    fields |= {"probeGuess": np.ones((N, N), np.complex64), "objectGuess": np.ones((3 * N, 3 * N), np.complex64)}
    with ScanWriter(path, COUNT, N, **{**fields, "metadata": {"dose": 3}, **changes}) as scan:
        for block in np.split(rng.random((COUNT, N, N)).astype(np.float32), [2, 3]):
            scan.write(block)
    return path


def flip(path, exposure, bit=0, key=b"diffraction.npy"):
    """Flip a bit of a frame, with the header of its array in place."""
    content = bytearray(path.read_bytes())
    start = content.index(b"\n", content.index(b"\x93NUMPY", content.index(key))) + 1
    content[start + exposure * 4 * N * N + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "scan.npz")


def test_the_checksums_are_those_of_the_bytes_of_every_frame(path):
    frames, checksums = load_arrays(path, "diffraction", "frame_checksums")
    assert checksums.dtype == np.uint32
    assert checksums.tolist() == [zlib.crc32(frame.astype("<f4").tobytes()) for frame in frames]


@pytest.mark.parametrize("bad_pixels", [False, True])
def test_any_bit_that_flips_in_a_frame_that_is_read_is_refused(tmp_path, bad_pixels):
    mask = np.zeros((N, N), bool)
    mask[0] = bad_pixels
    path = write(tmp_path / "scan.npz", bad_pixels=mask)
    content, before = path.read_bytes(), open_scan(path).diffraction[:]
    rng = np.random.default_rng(1)
    bits = [0, 32 * N * N - 1, *rng.integers(32 * N * N, size=40).tolist()]
    for exposure, bit in zip(rng.integers(COUNT, size=len(bits)).tolist(), bits, strict=True):
        flip(path, exposure, bit)
        frames = open_scan(path).diffraction
        others = np.delete(np.arange(COUNT), exposure)
        np.testing.assert_array_equal(frames[others], before[others])
        for _ in range(2):  # and refused again
            with pytest.raises(ContractError, match=rf"scan\.npz: 'diffraction': exposures \[{exposure}\] are damaged"):
                frames[exposure]
        path.write_bytes(content)


@pytest.mark.parametrize("index", [
    ..., slice(None), 3, -4, slice(2, 5), slice(6, 1, -1), [5, 3, 3], np.arange(COUNT) > 2, np.array([[1, 2], [3, 4]]),
    (slice(3, 4), slice(2, 5)), (slice(None), slice(2, 5), 7), (3, slice(0, 1)), (..., 2), (),
], ids=str)  # fmt: skip
def test_a_damaged_frame_is_refused_however_it_is_indexed(path, index):
    intact = open_scan(path).diffraction
    assert intact[index].shape == intact[:][index].shape
    np.testing.assert_array_equal(intact[index], intact[:][index])
    flip(path, 3, 26)
    with pytest.raises(ContractError, match=r"exposures \[3\] are damaged"):
        open_scan(path).diffraction[index]


def test_the_message_says_what_is_found_what_is_wanted_and_what_to_do(path):
    wanted = load_arrays(path, "frame_checksums")[0]
    frames = open_scan(path).diffraction[:]
    flip(path, 2, 26)
    flip(path, 5, 7)
    found = frames.copy().view(np.uint8).reshape(COUNT, -1)
    found[2, 3] ^= 4
    found[5, 0] ^= 128
    with pytest.raises(ContractError) as error:
        detected_photons(open_scan(path).diffraction)
    has, says = (
        ", ".join(f"{value:08x}" for value in pair) for pair in (map(zlib.crc32, found[[2, 5]]), wanted[[2, 5]])
    )
    assert str(error.value) == (
        f"{path}: 'diffraction': exposures [2, 5] are damaged, of CRC-32 {has}; wanted {says}, as 'frame_checksums' "
        "says: make the file again (if these frames were changed on purpose, delete the member frame_checksums.npy)"
    )


def test_every_exposure_is_compared_once(path, monkeypatch):
    scan, compared, crc32 = open_scan(path), [], zlib.crc32
    monkeypatch.setattr("ptycho.data.mapped.zlib.crc32", lambda frame: (compared.append(len(frame)), crc32(frame))[1])
    scan.diffraction[[1, 5, 1]]
    assert len(compared) == 2
    for _ in range(3):
        scan.diffraction[:]
        scan.diffraction[2:4]
    assert len(compared) == COUNT


def test_frames_that_were_changed_on_purpose_are_read_without_the_checksums(path):
    """So are scans of older versions and of other programs, which have none."""
    changed = 2 * open_scan(path).diffraction[:]
    rewritten(path, "diffraction", npy(changed))
    with pytest.raises(ContractError, match=r"exposures \[0, 1, 2, 3, 4, 5, 6\] are damaged"):
        open_scan(path).diffraction[:]
    with zipfile.ZipFile(path) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist() if name != "frame_checksums.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
    np.testing.assert_array_equal(open_scan(path).diffraction[:], changed)


@pytest.mark.parametrize(
    "checksums", [np.zeros(COUNT - 1, np.uint32), np.zeros(COUNT), np.zeros((), np.uint32), np.zeros((COUNT, 1), ">u4")]
)
def test_checksums_of_another_type_or_number_are_refused(path, checksums):
    rewritten(path, "frame_checksums", npy(checksums))
    with pytest.raises(ContractError, match=rf"scan\.npz: 'frame_checksums' is .*; wanted uint32 \({COUNT},\)"):
        open_scan(path)


def test_counts_that_are_none_are_refused_with_the_file(scan):
    """Also those of groups, as networks read them."""
    frames = np.array(scan.diffraction[:])
    frames[5, 3, 3] = np.nan
    container = open_groups(replace(scan, diffraction=frames), view_of(scan))
    group = next(number for number in range(len(container)) if 5 in container.members(number))
    with pytest.raises(ContractError, match=r"scan\.npz: exposures \[5\]: counts that are not finite"):
        Counts.of_group(container, group).photons()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_bit_that_flips_in_frames_of_another_program_is_refused(tmp_path, order, capsys):
    """Also where the exposures behind it are not read, and where the array is mapped: the whole array is compared."""
    raw = measurement(n=N, count=24)
    raw["intensity"] = np.asarray(raw["intensity"], order=order)
    path = tmp_path / "raw.npz"
    np.savez(path, **raw)
    content = bytearray(path.read_bytes())
    content[content.index(raw["intensity"].tobytes("A")) + 5] ^= 1
    path.write_bytes(content)
    convert(path, tmp_path / "scan.npz", "--leave-out", "20-23", code=2)
    assert "cannot be read: cut short or damaged (Bad CRC-32 for file 'intensity.npy')" in capsys.readouterr().err


def test_a_bit_that_flips_in_frames_of_groups_is_refused(tmp_path):
    from ptycho.data.grouped_files import open_grouped

    rng = np.random.default_rng(0)
    arrays = {"X": rng.random((3, N, N, 4)).astype(np.float32), "probeGuess": np.ones((N, N), np.complex64)}
    arrays |= {"global_offsets": np.full((3, 1, 2, 1), 1.5 * N), "local_offsets": rng.uniform(-3, 3, (3, 1, 2, 4))}
    path = tmp_path / "groups.npz"
    save_arrays(path, **arrays, YY_full=np.ones((3 * N, 3 * N), np.complex64))
    assert len(open_grouped(path)[0]) == 12
    flip(path, 8, 26, b"X.npy")
    with pytest.raises(ContractError, match=r"groups\.npz: 'X.npy' cannot be read: cut short or damaged"):
        open_grouped(path)
