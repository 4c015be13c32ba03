"""The stand-alone comparison of two saved models, called as its users do."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.view import images_of
from ptycho.data.grouped_files import open_test_data
from ptycho.loader import open_groups
from ptycho.model.card import make_card, save_network
from ptycho.model.networks import Estimator, build_network
from ptycho.physics.forward import illumination
from ptycho.scoring.region import shared_region
from tests.conftest import view_of, write_scan
from tests.test_grouped_files import fields_of

SCRIPT = Path(__file__).parent.parent / "scripts/compare_models.py"


def compare_models(*arguments, **options):
    command = [sys.executable, SCRIPT, "--threads", "1"]
    command += [str(part) for pair in options.items() for part in (f"--{pair[0]}", pair[1])]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def save_model(path, probe, n=64):
    """Save an untrained network, with the card that a training writes."""
    estimator = Estimator(physics_iterations=2, transmittance=0.8, n_pixels=n)
    facts = {"n_pixels": n, "channels": 4, "transmittance": 0.8, "estimator": estimator.as_dict()}
    save_network(path, build_network(estimator, 2), make_card("pinn", probe, **facts), probe)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A scan wide enough to be scored, and an untrained network."""
    folder = tmp_path_factory.mktemp("cli")
    scan = write_scan(folder / "test.npz", columns=9, rows=9)
    save_model(folder / "model.keras", scan.probe)
    return folder, scan


def test_two_models_and_an_iterative_reconstruction_on_a_scan(files, tmp_path):
    folder, scan = files
    np.savez(tmp_path / "truth.npz", objectGuess=scan.object[:])
    run = compare_models(
        pinn_dir=folder,
        baseline_dir=folder / "model.keras",
        iterative=tmp_path / "truth.npz",
        test_data=folder / "test.npz",
        output_dir=tmp_path / "out",
        **{"pinn-chunk-size": 1, "baseline-chunk-size": 1000, "n-test-groups": 3, "tile-px": 40, "halo-px": 12},
    )
    assert run.returncode == 0, run.stderr
    assert "100%" in run.stderr  # the progress bar
    (warning,) = [line for line in run.stdout.splitlines() if line.startswith("WARNING")]  # of no other probe
    assert "the halo of the tiles, 12 px, is narrower than half a pattern, N/2 = 32 px" in warning
    table = pd.read_csv(tmp_path / "out/comparison_metrics.csv")
    assert list(table.columns) == ["dose", "view", "split", "method", "seed", "metric", "value"]
    values = table.query("metric != 'cpu_s'").pivot_table(index="metric", columns="method", values="value")
    assert set(values.columns) == {"pinn", "baseline", "iterative"}
    assert values.loc["error", "iterative"] < 1e-3  # the truth itself
    assert (values["pinn"] - values["baseline"]).abs().max() < 1e-4  # one network, two chunk sizes
    shown = images_of(tmp_path / "out/comparison.npz")
    assert list(shown) == ["reference", "pinn", "baseline", "iterative"]  # this scan does not say that it is simulated
    assert np.load(tmp_path / "out/comparison.npz")["pinn"].dtype == np.complex64
    assert set(pd.read_csv(tmp_path / "out/frc.csv")["method"]) == {"pinn", "baseline", "iterative"}
    for name in ("comparison", "frc"):
        assert (tmp_path / f"out/{name}.png").stat().st_size > 10_000


def test_one_model_on_a_grouped_file(files, tmp_path):
    folder, scan = files
    np.savez(tmp_path / "groups.npz", **fields_of(open_groups(scan, view_of(scan, n_groups=70))))
    run = compare_models(pinn_dir=folder, test_data=tmp_path / "groups.npz", output_dir=tmp_path / "out")
    assert run.returncode == 0, run.stderr
    table = pd.read_csv(tmp_path / "out/comparison_metrics.csv")
    assert set(table["method"]) == {"pinn"}
    assert "heldout_deviance" not in set(table["metric"])  # no exposure is holdout


def test_a_model_of_another_probe_is_warned_of(files, tmp_path):
    folder, scan = files
    save_model(tmp_path / "model.keras", 2 * scan.probe)
    run = compare_models(pinn_dir=tmp_path, test_data=folder / "test.npz", output_dir=tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "model.keras: the data's probe is not the one of the training: 2e+04 photons, not 8e+04" in run.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pinn_dir": "nowhere"}, "nowhere: no model.keras there"),
        ({"test_data": "nothing.npz"}, "nothing.npz: no such file"),
        ({"pinn-chunk-size": 0}, "--pinn-chunk-size: '0' is not a positive integer"),
        ({"pinn_dir": "small"}, "small.keras: trained on patterns of 32 px; these have 64 px"),
        ({"pinn_dir": "zip"}, "zip.keras: no 'ptycho.json' in it"),
        ({"pinn_dir": "text"}, "text.keras: not a saved model"),
    ],
)
def test_a_mistake_is_explained_in_one_line(files, tmp_path, changes, message):
    options = {"pinn_dir": files[0], "test_data": files[0] / "test.npz", "output_dir": tmp_path / "out"}
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("x", "no model")
    (tmp_path / "text.keras").write_text("no model")
    save_model(tmp_path / "small.keras", files[1].probe[..., :32, :32], n=32)
    if changes.get("pinn_dir") in ("small", "zip", "text"):
        changes = {"pinn_dir": tmp_path / f"{changes['pinn_dir']}.keras"}
    run = compare_models(**options | changes)
    assert run.returncode == 2
    assert message in run.stderr
    assert run.stderr.strip().count("\n") == 0
    assert "Traceback" not in run.stderr


def test_few_tiles_are_scored_where_they_are(files):
    scan, view, tiles = open_test_data(files[0] / "test.npz", n_groups=2, tile_px=40, halo_px=8, seed=0)
    assert len(tiles) == 2
    region = shared_region(scan, [view])
    used = np.unique(np.concatenate([tile.exposures for tile in tiles]))
    incident = illumination(scan.probe, scan.xcoords[used], scan.ycoords[used], scan.object.shape)
    scored = incident[region.y0 : region.y1, region.x0 : region.x1]
    assert scored.min() > 0.05 * np.median(incident[incident > 1e-3 * incident.max()])
    assert region.y1 < scan.object.shape[0] - 32  # the rest of the scan is left out


def test_the_help_names_every_option():
    text = compare_models("--help").stdout
    options = "--pinn_dir --baseline_dir --iterative --test_data --output_dir --n-test-groups --tile-px --halo-px"
    for option in options.split():
        assert option in text
    assert "examples:" in text
