"""Refining TV-MAP by a network: the same seed repeats, an interrupted run resumes, large scans go tile by tile."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import cut_tiles
from ptycho.model import refined as refined_module
from ptycho.model import unet_training
from ptycho.model.checkpoints import Backup
from ptycho.model.refined import CHANNELS, Maps, RefinedOptions, RefinedRun, refine, refine_tile
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow.job import CpuClock
from tests.conftest import PRIOR, error_of

OPTIONS = RefinedOptions(n_splits=2, fit_fraction=0.75, tile_px=40, filters=4, steps=20, learning_rate=1e-3)


def run_with(**changes):
    return RefinedRun(**{"tv_weight": 8.0, "prior": PRIOR, "options": OPTIONS, "seed": 0} | changes)


@pytest.fixture(scope="module")
def refined(scan, counts):
    return refine_tile(counts, scan.probe, run_with())


@pytest.mark.parametrize("saves", [1, OPTIONS.n_splits + 4])
def test_an_interrupted_refinement_resumes_to_the_same_object(
    scan, counts, refined, tmp_path, monkeypatch, interrupted_after, log, saves
):
    backup, clock, computed = Backup(tmp_path / "backup", "key"), CpuClock(), []
    with interrupted_after(saves):
        refine_tile(counts, scan.probe, run_with(backup=backup))
    monkeypatch.setattr(Maps, "of", lambda *args, of=Maps.of: computed.append(1) or of(*args))
    spent, start = clock.seconds, clock.start
    resumed = refine_tile(counts, scan.probe, run_with(backup=backup, clock=clock))
    assert "resumes with" in log.text
    assert len(computed) == max(OPTIONS.n_splits - saves, 0) + 1  # the missing splits, and all photons at the end
    assert 0 < start - clock.start < spent  # the clock counts the cost of what was resumed
    np.testing.assert_array_equal(resumed["refined"].object, refined["refined"].object)
    pd.testing.assert_frame_equal(resumed["refined"].history, refined["refined"].history)


def test_a_refinement_is_the_mean_of_whole_and_splits_and_repeats(scan, counts, refined):
    again = refine(counts, scan.probe, run_with())  # of a scan that is one tile
    assert set(refined) == set(again) == {"refined", "whole", "splits"}
    bright = refined["refined"].illumination > 1e-3 * refined["refined"].illumination.max()
    for name, result in refined.items():
        np.testing.assert_allclose(again[name].object[bright], result.object[bright], rtol=1e-6)
        assert again[name].origin_px == result.origin_px
        assert again[name].chosen == {"tv_weight": 8.0}
        assert again[name].cpu_s > 0
    history = refined["refined"].history
    pd.testing.assert_frame_equal(again["refined"].history, history)
    assert list(history) == ["epoch", "loss", "validation_deviance", "learning_rate"]
    assert len(history) <= unet_training.ROUNDS
    mean = (refined["whole"].object + refined["splits"].object) / 2
    np.testing.assert_allclose(refined["refined"].object, mean, atol=1e-6)
    assert np.abs(refined["whole"].object - refined["splits"].object).max() > 1e-3
    error, shift = error_of(refined["refined"], scan)
    assert error < 0.2
    assert shift < 0.1


def test_the_network_sees_tv_maps_with_weights_around_the_chosen_one(scan, counts, monkeypatch):
    weights, likelihood = [], Likelihood(counts, scan.probe, 0.8)
    monkeypatch.setattr(refined_module, "minimize", lambda _, obj, *numbers: weights.append(numbers) or (obj, 0.0, 0))
    monkeypatch.setattr(refined_module, "minimize_slow_phase", lambda _, obj, iterations: obj)
    maps = Maps.of(likelihood, 0.8, 0.7, run_with(tv_weight=4.0))
    scale = np.sqrt(0.8)  # of a part of the photons
    assert [number for _, number in weights[-4:]] == [10, 10, 20, 10]  # the chosen one has the final iterations
    np.testing.assert_allclose([weight / scale for weight, _ in weights[-4:]], [16, 8, 4, 1])
    assert all(weight > 16 * scale for weight, _ in weights[:-4])  # the way there from `lambda_max`
    assert maps.features.shape == (*likelihood.shape, CHANNELS)
    assert maps.start[0, 0] == np.float32(0.7)


def test_a_large_scan_is_refined_tile_by_tile(scan, wide, tmp_path, monkeypatch):
    seen = []

    def constant_tile(counts, probe, run):
        """As `refine_tile`, but the object is the number of the tile."""
        seen.append((len(counts), run.backup.folder.name))
        likelihood = Likelihood(counts, probe)
        shared = {"illumination": likelihood.illumination(), "origin_px": likelihood.origin_px}
        shared["history"] = pd.DataFrame({"epoch": [1.0, 2.0], "loss": 1.0})
        obj = np.full(likelihood.shape, 1 + len(seen), np.complex64)
        return {name: Reconstruction(object=obj, **shared) for name in ("refined", "whole")}

    monkeypatch.setattr(refined_module, "refine_tile", constant_tile)
    run = run_with(prior=replace(PRIOR, tile_px=60), backup=Backup(tmp_path / "backup", "key"))
    result = refine(wide, scan.probe, run, folder=tmp_path)["refined"]
    tiles = cut_tiles(wide.xcoords, wide.ycoords, run.prior.tile_px, scan.n_pixels)
    assert len(tiles) > 2
    assert seen == [(len(tile.exposures), f"tile_{number}") for number, tile in enumerate(tiles)]
    assert max(count for count, _ in seen) < len(wide)
    middle, left = result.object.shape[0] // 2, result.origin_px[1]
    for number in (0, len(tiles) - 1):
        outer = np.clip(tiles[number].core[1], wide.xcoords.min(), wide.xcoords.max())
        column = int(outer[0] if number == 0 else outer[1]) - left  # beyond the halo of the next tile
        assert abs(result.object[middle, column] - (2 + number)) < 0.5
    assert list(result.history["tile"].unique()) == [f"{number + 1}/{len(tiles)}" for number in range(len(tiles))]
    assert result.history["epoch"].tolist() == list(range(1, 2 * len(tiles) + 1))
