"""The commands of docs/how-to/from-cxi.md, run as they stand on a CXI file that is written here by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.scan import open_scan
from ptycho.scoring.metrics import error
from ptycho.scoring.registration import align
from tests.faulty_scans import N, right
from tests.workflow import ROOT, environment

PAGE = (ROOT / "docs/how-to/from-cxi.md").read_text(encoding="utf-8")
DETECTOR_PIXEL, DISTANCE, ENERGY_EV = 75e-6, 1.0, 8800.0
WAVELENGTH = 1.23984198e-6 / ENERGY_EV
PIXEL = WAVELENGTH * DISTANCE / (N * DETECTOR_PIXEL)
HEIGHT, WIDTH = 36, 44
MAXIMUM = 2**32 - 1
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
CONDITION = "results/my_scan/dose_10000/dense/seed_0"
pytestmark = [pytest.mark.slow, pytest.mark.ci]  # a whole study, which the other tests run in parts


def blocks(language):
    """Blocks of code of the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def write_cxi(path, raw):
    """Frames around [H/2, W/2] with a gap, dead pixels and a hot one; the sample's translation, energy in joule."""
    top, left = HEIGHT // 2 - N // 2, WIDTH // 2 - N // 2
    frames = np.zeros((len(raw.counts), HEIGHT, WIDTH), np.uint32)
    frames[:, top : top + N, left : left + N] = raw.counts
    frames[:, :, :3] = frames[:, 20:22] = MAXIMUM
    frames[:, 7, 15] = frames[:, 25, 30] = MAXIMUM
    frames[:, 10, 12] = 50_000
    # The beam goes right and down on the sample where the sample goes left and up: x and y of McStas' axes grow.
    translation = np.stack([raw.xcoords, raw.ycoords, np.zeros(len(frames))], axis=1) * PIXEL + [1e-3, -2e-4, 0]
    instrument = "entry_1/instrument_1"
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file[f"{instrument}/detector_1/data"] = frames
        file[f"{instrument}/detector_1/distance"] = DISTANCE
        file[f"{instrument}/detector_1/x_pixel_size"] = file[f"{instrument}/detector_1/y_pixel_size"] = DETECTOR_PIXEL
        file[f"{instrument}/source_1/energy"] = ENERGY_EV * 1.602176634e-19
        file[f"{instrument}/source_1/illumination"] = (raw.probe / np.abs(raw.probe).max()).astype(np.complex64)
        file["entry_1/sample_1/geometry_1/translation"] = translation
        file["entry_1/data_1/data"] = h5py.SoftLink(f"/{instrument}/detector_1/data")
        file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")


def run(commands, folder):
    """Run a block of commands as a reader does, on one core, wherever programs and workflow are; output, exit code."""
    programs, own = Path(sys.executable).parent, f"--snakefile {ROOT}/Snakefile --directory . --cores 1"
    commands = commands.replace("/snakemake --cores 2", f"/snakemake {own}")
    commands = f"set -e\n{commands}".replace(".venv/bin/", f"{programs}/")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "check": False}
    result = subprocess.run(["bash", "-c", commands], cwd=folder, env=environment(), **options)
    return result.stdout, result.returncode


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder of a reader who has followed the page, the true scan, and outputs and exit codes of its commands."""
    folder, raw = tmp_path_factory.mktemp("reader"), right(rows=20, columns=9)
    write_cxi(folder / "sample.cxi", raw)
    (study,) = blocks("yaml")
    name = re.search(r"Save it as `([\w.]+)`", PAGE)[1]
    (folder / name).write_text(study, encoding="utf-8")
    (quick,) = (block.strip() for block in blocks("text") if block.startswith("--config"))
    results = []
    for commands in blocks("sh"):
        results.append(run(commands.replace(" -- report", f" {quick} -- report"), folder))
        assert results[-1][1] in (0, 1), results[-1][0][-4000:]
    return folder, raw, results


def test_the_commands_end_as_the_page_says(followed):
    """All succeed but the first check, which finds the hot pixel."""
    _, _, results = followed
    codes = [code for _, code in results]
    assert "The exit code is 1." in PAGE
    assert codes == [int("ptycho check scan.npz" in commands) for commands in blocks("sh")]


def test_the_output_on_the_page_is_what_the_commands_print(followed):
    """Line by line, numbers left out: those of the page are of this file, too, but of another machine perhaps."""
    _, _, results = followed
    printed = {NUMBER.sub("#", line.strip()) for output, _ in results for line in output.splitlines()}
    shown = [line for block in blocks("text") if not block.startswith("--config") for line in block.splitlines()]
    assert len(shown) > 25
    assert [line for line in shown if NUMBER.sub("#", line.strip()) not in printed] == []


def test_what_was_wrong_with_the_file_is_masked_and_its_lengths_are_kept(followed):
    folder, raw, _ = followed
    scan = open_scan(folder / "masked.npz")
    bad = scan.detector.bad_pixels
    assert bad[18:20].all()
    assert bad[[5, 23, 8], [9, 24, 6]].all()
    assert bad.sum() == 2 * N + 3
    counts = np.square(scan.diffraction[:], dtype=np.float64)
    np.testing.assert_allclose(counts[:, ~bad], raw.counts[:, ~bad], atol=1e-2)
    for axis, true in ((scan.xcoords, raw.xcoords), (scan.ycoords, raw.ycoords)):
        np.testing.assert_allclose(axis - axis[0], true - true[0], atol=1e-6)
    assert scan.metadata["pixel_size_m"] == pytest.approx(PIXEL)
    assert scan.metadata["source"] == "sample.cxi"


@pytest.mark.parametrize("file", ["results/my_scan/data/reference.npz", f"{CONDITION}/test/tv/object.npz"])
def test_the_objects_are_close_to_the_truth(followed, file):
    folder, raw, _ = followed
    result, _ = load_reconstruction(folder / file)
    scan, shape = open_scan(folder / "masked.npz"), raw.object.shape
    shift = [round(np.mean(axis)) for axis in (scan.ycoords - raw.ycoords, scan.xcoords - raw.xcoords)]
    origin = result.origin_px[0] - shift[0], result.origin_px[1] - shift[1]
    obj, flux = (
        paste(array, origin, shape, fill=fill) for array, fill in ((result.object, 1), (result.illumination, 0))
    )
    lit = flux > 0.5 * np.median(flux[flux > 0])
    extents = [np.flatnonzero(lit.sum(axis) > 0.5 * lit.sum(axis).max()) for axis in (1, 0)]
    box = tuple(slice(int(inside[0]) + 8, int(inside[-1]) - 7) for inside in extents)
    aligned, _ = align(obj, raw.object, flux, box)
    assert error(aligned, raw.object[box]) < 0.08


def test_the_photons_are_predicted_and_the_study_is_reported(followed):
    folder, _, _ = followed
    reference = json.loads((folder / "results/my_scan/data/reference_misfit.json").read_text(encoding="utf-8"))
    assert 0.95 < reference["misfit"] < 1.5
    (judged,) = json.loads((folder / "judged.json").read_text(encoding="utf-8"))
    assert 0.8 < judged["misfit"] < 1.5
    assert "tv" in (folder / "results/my_scan/summary.txt").read_text(encoding="utf-8")
    assert (folder / "results/my_scan/report.html").stat().st_size > 100_000


def test_the_exported_object_has_its_size(followed):
    folder, _, _ = followed
    with tifffile.TiffFile(folder / "sample.tif") as file:
        above, below = file.pages[0].tags["XResolution"].value
    assert above / below == pytest.approx(1e-2 / PIXEL, rel=1e-4)
    with h5py.File(folder / "object.cxi") as file:
        assert np.iscomplexobj(file["entry_1/image_1/data"])
