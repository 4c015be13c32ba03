"""A law for every method: what stands in bad pixels changes no bit of the result; and they are no zeros, either."""

import keras
import numpy as np
import pandas as pd
import pytest

from ptycho.data.npz import load_arrays, save_arrays
from ptycho.data.scan import REQUIRED, open_scan
from ptycho.data.tiles import cut_view
from ptycho.data.views import FIT, VALIDATION
from ptycho.loader import open_groups, open_tiles
from ptycho.methods import METHODS
from ptycho.model.inference import reconstruct_in_chunks
from ptycho.model.networks import NetworkOptions
from ptycho.model.refined import RefinedOptions, RefinedRun, refine
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.model.unet_training import ROUNDS
from ptycho.model.unrolled import UnrolledOptions, train_unrolled
from ptycho.reconstruction import lsqml, tv
from ptycho.reconstruction.counts import Counts
from tests.conftest import ONE_TILE, PRIOR, view_of, write_scan
from tests.test_detector import bad_pixels

N = 32
BAD = bad_pixels(N)
UNET = {"filters": 1, "steps": ROUNDS, "learning_rate": 1e-3, "tile_px": 30, "fit_fraction": 0.8}
STAGES = {"stages": 2, "minibatch_epochs": 1, "iterations": 2, "phase_iterations": 1, "final_iterations": 2}
LSQML = lsqml.LSQMLOptions(epochs=3, early_stopping_patience=9, batch_size=16, compact_batching_below_overlap=0.0)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The same scan with zeros in its bad pixels, with garbage of four kinds there, and with zeros but no mask."""
    folder, rng = tmp_path_factory.mktemp("masked"), np.random.default_rng(0)
    detector = {"bad_pixels": BAD, "background": np.full((N, N), 0.2, np.float32)}
    write_scan(folder / "scan.npz", n=N, detector=detector | {"exposure_scale": rng.uniform(0.8, 1.2, 49)})
    keys = [*REQUIRED, "background", "exposure_scale"]
    arrays = dict(zip(keys, load_arrays(folder / "scan.npz", *keys), strict=True))
    frames = arrays.pop("diffraction")
    frames[:, BAD] = 0
    save_arrays(folder / "unmasked.npz", diffraction=frames, **arrays)
    save_arrays(folder / "zeros.npz", diffraction=frames, bad_pixels=BAD, **arrays)
    garbage = np.float32([np.nan, -1, 2**16, np.inf])
    frames[:, BAD] = garbage[rng.integers(0, 4, (49, BAD.sum()))]
    background = np.where(BAD, np.nan, arrays["background"]).astype(np.float32)
    save_arrays(folder / "garbage.npz", diffraction=frames, bad_pixels=BAD, **{**arrays, "background": background})
    return {name: open_scan(folder / f"{name}.npz") for name in ("zeros", "garbage", "unmasked")}


def counts_of(scan):
    return Counts.of(scan, view_of(scan).of_role(FIT, VALIDATION))


def by_network(method, scan):
    view = view_of(scan)
    options = TrainingOptions(steps=ROUNDS, learning_rate=1e-3, fit_fraction=0.8, loss="poisson")
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=0)
    network = NetworkOptions(filters=1, physics_iterations=2)
    model, history = train(method, open_groups(scan, view), network, options, run)
    tiles = cut_view(scan, view.of_role(FIT, VALIDATION), ONE_TILE)
    return reconstruct_in_chunks(model, open_tiles(scan, tiles), tiles, 1000, 16).object, history


def by_unrolled(scan):
    options = UnrolledOptions(**UNET, **STAGES, post_iterations=1, tiles=2)
    model, history = train_unrolled(counts_of(scan), scan.probe, options, PRIOR, seed=0)
    return model.reconstruct(counts_of(scan), scan.probe).object, history


def by_lsqml(scan):
    view = view_of(scan)
    fit, validation = (lsqml.Exposures.of(scan, view.of_role(role)) for role in (FIT, VALIDATION))
    runs = lsqml.LSQMLRun(seed=0), lsqml.LSQMLRun(seed=0, refine_probe=True, stabilize=True)  # method and reference
    results = [lsqml.reconstruct(fit, validation, scan.probe, LSQML, run) for run in runs]
    return np.stack([result.object for result in results]), pd.concat([result.history for result in results])


def by_tv(scan):
    result = tv.reconstruct(counts_of(scan), scan.probe, PRIOR, seed=0)
    return result.object, result.history


def by_refined(scan):
    run = RefinedRun(tv_weight=8.0, prior=PRIOR, options=RefinedOptions(**UNET, n_splits=1), seed=0)
    result = refine(counts_of(scan), scan.probe, run)["refined"]
    return result.object, result.history


RECONSTRUCT = {
    "pinn": lambda scan: by_network("pinn", scan),
    "baseline": lambda scan: by_network("baseline", scan),
    "unrolled": by_unrolled,
    "lsqml": by_lsqml,
    "tv": by_tv,
    "refined": by_refined,
}


def test_the_law_is_about_every_method():
    assert set(RECONSTRUCT) == set(METHODS)


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in ("lsqml", "tv") else [pytest.mark.slow]) for name in RECONSTRUCT]
)
def test_what_stands_in_bad_pixels_changes_no_bit(scans, method):
    results = []
    for name in ("zeros", "garbage"):
        keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
        results.append(RECONSTRUCT[method](scans[name]))
    (first, history), (second, other) = results
    np.testing.assert_array_equal(first, second)
    assert history.equals(other)
    assert np.isfinite(first).all()


@pytest.mark.parametrize("method", ["lsqml", "tv"])
def test_bad_pixels_are_no_zeros(scans, method):
    masked, unmasked = (RECONSTRUCT[method](scans[name])[0] for name in ("zeros", "unmasked"))
    assert np.abs(masked - unmasked).max() > 1e-2 * np.abs(masked).max()
