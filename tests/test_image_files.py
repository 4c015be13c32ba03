"""Images of samples and masks: PNG and TIFF by their content, bounded before a pixel is read."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from ptycho.formats.detector_files import read_npy, read_plane
from ptycho.formats.image_files import read_image
from ptycho.formats.images import read_image_pair, read_object, read_probe
from ptycho.workflow.files import ContractError


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height):
    """A PNG whose header declares a size, with next to no pixels."""
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_images_are_read_as_they_are(tmp_path, dtype):
    image = np.arange(12).reshape(3, 4).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)
    if dtype != np.float32:
        Image.fromarray(image).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
        (tmp_path / "a.png").rename(tmp_path / "other.tif")  # what it is says its content
        np.testing.assert_array_equal(read_image(tmp_path / "other.tif"), image)


def test_a_palette_and_one_bit_are_gray_values(tmp_path):
    Image.new("P", (2, 2), 3).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (2, 2, 3)
    Image.fromarray(np.eye(2, dtype=bool)).save(tmp_path / "bit.png")
    obj = read_image_pair(tmp_path / "bit.png", tmp_path / "bit.png", phase_range_rad=(0, 0))
    np.testing.assert_allclose(np.abs(obj), [[1, 0.5], [0.5, 1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n", "neither a PNG nor a TIFF image"),
        (b"GIF89a" + bytes(20), "neither a PNG nor a TIFF image"),
        (b"", "neither a PNG nor a TIFF image"),
        (png(13_000, 13_000), r"an image of shape \(13000, 13000, 4\) would take 5.41 GB of memory; wanted at most"),
        (png(2**31 - 1, 2**31 - 1), "the image cannot be read|would take"),
        (png(5, 5)[:-20], "the image cannot be read: cut short or damaged"),
    ],
    ids=["EPS", "GIF", "empty", "13,000 px", "2e9 px", "cut short"],
)
def test_other_images_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ContractError, match=rf"x\.png: .*({message})"):
        read_image(tmp_path / "x.png")
    with pytest.raises(ContractError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


def test_tiffs_that_are_no_gray_values_are_said(tmp_path):
    tifffile.imwrite(tmp_path / "wave.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(ContractError, match=r"wave\.tif: an image of complex numbers; wanted integers or floats"):
        read_object(tmp_path / "wave.tif", tmp_path / "wave.tif")
    tifffile.imwrite(tmp_path / "bits.tif", np.eye(4, dtype=bool), photometric="minisblack")
    with pytest.raises(ContractError, match=r"bits\.tif: an image of truth values; wanted integers or floats"):
        read_image(tmp_path / "bits.tif")
    np.testing.assert_array_equal(read_plane(tmp_path / "bits.tif", ())[1], np.eye(4, dtype=bool))  # a mask
    tifffile.imwrite(tmp_path / "large.tif", shape=(12_000, 12_000), dtype=np.uint8)
    with pytest.raises(ContractError, match=r"large\.tif: an image of shape \(12000, 12000\) would take 1.15 GB"):
        read_image(tmp_path / "large.tif")


def test_an_npy_is_held_against_its_header(tmp_path):
    for name, header, message in (
        ("many", {"shape": (10**12,)}, r"float64 with shape \(1000000000000,\) .*would take 8e\+03 GB"),
        ("more", {"shape": (9,)}, "72 bytes; the file has 64"),
        ("none", {"descr": "|V0"}, r"an array of \|V0; wanted numbers"),
        ("objects", {"descr": "|O"}, "an array of object; wanted numbers, and pickles are never read"),
    ):
        with (tmp_path / f"{name}.npy").open("wb") as file:
            fields = {"descr": "<f8", "fortran_order": False, "shape": (8,)} | header
            np.lib.format.write_array_header_1_0(file, fields)
            file.write(np.ones(8).tobytes())
        with pytest.raises(ContractError, match=rf"{name}\.npy: .*{message.removeprefix('float64 ')}"):
            read_npy(tmp_path / f"{name}.npy")


@pytest.mark.parametrize("probe", [np.full((4, 4), np.nan, complex), np.zeros((4, 4), complex), np.array(["a"])])
def test_a_probe_that_is_none_is_refused(tmp_path, probe):
    np.savez(tmp_path / "probe.npz", probeGuess=probe)
    with pytest.raises(ContractError, match=r"probe\.npz: 'probeGuess' "):
        read_probe(tmp_path / "probe.npz")
