"""The commands `ptycho view` and `ptycho convert`; `ptycho provenance` is in test_provenance.py."""

import json
import subprocess
import sys

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ptycho.cli.main import main
from ptycho.cli.view import images_of
from ptycho.data.npz import open_member, save_arrays
from ptycho.data.object_files import Reconstruction, save_reconstruction


@pytest.fixture(autouse=True)
def headless(tmp_path, monkeypatch):
    """No test opens a window, or writes into the repository."""
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path, scan):
    rng = np.random.default_rng(0)
    obj = (rng.uniform(0.5, 1, (40, 50)) * np.exp(1j * rng.uniform(-0.5, 0.5, (40, 50)))).astype(np.complex64)
    illumination = np.ones(obj.shape)
    illumination[:, :10] = 1e-6
    reconstruction = Reconstruction(object=obj, illumination=illumination, origin_px=(100, 20))
    save_reconstruction("object.npz", reconstruction, method="tv")
    metadata = np.array(json.dumps({"origin_px": [3, 4]}))
    save_arrays("comparison.npz", truth=obj, pinn=obj, tv=-obj, metadata=metadata)
    np.savez("view.npz", role=np.zeros(3))
    return {"object": "object.npz", "comparison": "comparison.npz", "scan": str(scan.path), "view": "view.npz"}


def test_an_object_is_shown_at_its_origin_without_dark_pixels(files):
    ((amplitude, phase, origin),) = images_of(files["object"]).values()
    assert origin == (100, 20)
    assert np.isnan(amplitude[:, :10]).all()
    assert np.isnan(phase[:, :10]).all()
    assert np.abs(phase[:, 10:]).max() < 0.51


def test_a_scan_is_shown_as_object_and_probe(files, scan):
    shown = images_of(files["scan"])
    assert list(shown) == ["object", "probe [√photon]"]
    np.testing.assert_allclose(shown["object"][0], np.abs(scan.object[...]))
    amplitude, phase, _ = shown["probe [√photon]"]
    assert np.isfinite(amplitude).all()
    assert np.isnan(phase[0, 0])


def test_a_comparison_is_shown_as_truth_and_methods_in_order(files):
    shown = images_of(files["comparison"])
    assert list(shown) == ["truth", "pinn", "tv"]
    assert {origin for _, _, origin in shown.values()} == {(3, 4)}


@pytest.mark.parametrize("command", [["view"], ["export"]], ids=["view", "export"])
def test_an_object_of_another_program_is_said_to_be_one_and_what_reads_it(files, capsys, command):
    np.savez("plain.npz", object=np.ones((8, 8), complex), probe=np.ones((4, 4), complex))
    with h5py.File("product.h5", "w") as file:
        file["object"] = np.ones((8, 8), complex)
    for name, message in (
        ("plain.npz", "plain.npz: an object without 'illumination', 'origin_px', 'metadata': that of another program"),
        ("product.h5", "product.h5: an HDF5 file; wanted an NPZ: "),
    ):
        assert main([*command, name, *(["out.tif"] if command == ["export"] else [])]) == 2
        line = capsys.readouterr().err
        assert message in line
        assert "`ptycho judge`" in line


@pytest.mark.parametrize("kind", ["object", "scan", "comparison"])
def test_a_figure_is_written_to_the_given_file(files, tmp_path, capsys, kind):
    assert main(["view", files[kind], "--output", str(tmp_path / "figure.png")]) == 0
    assert f"saved {tmp_path / 'figure.png'}" in capsys.readouterr().out
    assert np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).std() > 5


def test_without_a_display_a_file_is_written_and_named(files, tmp_path, capsys):
    assert main(["view", files["object"]]) == 0
    assert capsys.readouterr().out.strip() == f"no display to open a window on; saved {tmp_path / 'object_view.png'}"
    assert not plt.get_fignums()


def test_with_a_display_a_window_opens_and_no_file_is_written(files, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "tk")
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.gcf().axes))
    before = set(tmp_path.iterdir())
    assert main(["view", files["comparison"]]) == 0
    plt.close("all")
    assert len([axes for axes in shown if axes.images]) == 6
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("view.npz", "no object in it; found ['role'], wanted"), ("none.npz", "no such file"), ("a.csv", "not an NPZ")],
)
def test_a_file_without_an_object_is_refused(files, tmp_path, capsys, name, message):
    (tmp_path / "a.csv").write_text("a", encoding="utf-8")
    assert main(["view", name]) == 2
    assert f"{name}: {message}" in capsys.readouterr().err


def test_a_converted_scan_names_the_file_it_was_made_of(scan, tmp_path, capsys):
    keys = ("xcoords", "ycoords", "probeGuess", "objectGuess")
    fields = {key: open_member(scan.path, key)[...] for key in keys}
    np.savez_compressed("old.npz", diff3d=scan.diffraction[...], **fields)
    assert main(["convert", "old.npz", "scan.npz", "--quantity", "amplitude"]) == 0
    assert main(["provenance", "scan.npz"]) == 0
    output = capsys.readouterr().out
    assert "script: ptycho.cli.convert" in output
    assert "  unchanged  old.npz" in output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [(["--help"], 0, "convert"), (["view", "none.npz"], 2, "ptycho: none.npz: no such file"), (["melt"], 2, "melt")],
)
def test_the_module_is_the_command(arguments, code, message):
    run = subprocess.run([sys.executable, "-m", "ptycho", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert message in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
