"""Refining on top of TV-MAP: repeats, resumes, tile by tile."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.data.tiles import cut_tiles
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow.job import CpuClock
from tests.conftest import PRIOR, error_of

pytest.importorskip("tensorflow")

from ptycho.model import canvas
from ptycho.model import refined as refined_module
from ptycho.model.checkpoints import Backup
from ptycho.model.refined import Maps, RefinedOptions, refine, refine_tiles

REFINED = RefinedOptions(deals=2, fit_fraction=0.75, tile_px=40, filters=4, steps=20, learning_rate=1e-3)


@pytest.fixture(scope="module")
def refined(scan, counts):
    return refine(counts, scan.probe, 8.0, PRIOR, REFINED, seed=0)


@pytest.mark.parametrize("saves", [1, 2 + 4])
def test_a_refinement_that_was_killed_goes_on_to_the_same_object(scan, counts, refined, tmp_path, monkeypatch, saves):
    backup, clock = Backup(tmp_path / "backup", "key"), CpuClock()
    save, saved, made = Backup.save, [], []

    def save_and_die(self, *args, **arrays):
        save(self, *args, **arrays)
        saved.append(1)
        if len(saved) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Backup, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            refine(counts, scan.probe, 8.0, PRIOR, REFINED, seed=0, backup=backup)
    monkeypatch.setattr(Maps, "of", lambda *args, of=Maps.of: made.append(1) or of(*args))
    spent, start = clock.seconds, clock.start
    objects, *_, history = refine(counts, scan.probe, 8.0, PRIOR, REFINED, seed=0, backup=backup, clock=clock)
    assert len(made) == max(2 - saves, 0) + 1  # the deals that were missing, and all photons at the end
    assert 0 < start - clock.start < spent  # what was taken up had its cost
    np.testing.assert_array_equal(objects["refined"], refined[0]["refined"])
    np.testing.assert_array_equal(history.to_numpy(), refined[3].to_numpy())


def test_refining_starts_from_what_thinned_photons_give_and_repeats(scan, counts, refined):
    objects, light, origin, history = refined
    second, again = refine_tiles(counts, scan.probe, 8.0, PRIOR, REFINED, seed=0)  # which are one
    lit = light > 1e-3 * light.max()
    for name, obj in objects.items():
        np.testing.assert_allclose(second[name].mean()[lit], obj[lit], rtol=1e-6)
        assert second[name].origin_px == tuple(origin)
    pd.testing.assert_frame_equal(again, history)
    np.testing.assert_allclose(objects["refined"], (objects["whole"] + objects["deals"]) / 2, atol=1e-6)
    found, shift = error_of(objects["refined"], light, origin, scan)
    assert found < 0.2
    assert shift < 0.1
    assert len(history) <= canvas.ROUNDS


def test_a_large_scan_is_refined_tile_by_tile(scan, wide, tmp_path, monkeypatch):
    seen = []

    def number_of_tile(counts, probe, tv_weight, prior, options, *, seed, backup, clock):
        seen.append((len(counts), backup.folder.name))
        likelihood = Likelihood(counts, probe)
        objects = {name: np.full(likelihood.shape, 1 + len(seen), np.complex64) for name in ("refined", "whole")}
        rows = pd.DataFrame({"epoch": [1.0, 2.0], "loss": 1.0})
        return objects, likelihood.illumination(), likelihood.origin_px, rows

    monkeypatch.setattr(refined_module, "refined", number_of_tile)
    prior, backup = replace(PRIOR, tile_px=60), Backup(tmp_path / "backup", "key")
    canvases, history = refine_tiles(wide, scan.probe, 8.0, prior, REFINED, seed=0, folder=tmp_path, backup=backup)
    tiles = cut_tiles(wide.xcoords, wide.ycoords, prior.tile_px, scan.n_pixels)
    assert len(tiles) > 2
    assert seen == [(len(tile.exposures), f"tile_{number}") for number, tile in enumerate(tiles)]
    assert max(count for count, _ in seen) < len(wide)
    mean, (_, left) = canvases["refined"].mean(), canvases["refined"].origin_px
    for number in (0, len(tiles) - 1):
        outer = np.clip(tiles[number].core[1], wide.xcoords.min(), wide.xcoords.max())
        column = int(outer[0] if number == 0 else outer[1]) - left  # beyond the halo of the next tile
        assert abs(mean[mean.shape[0] // 2, column] - (2 + number)) < 0.5
    assert list(history["tile"].unique()) == [f"{number + 1}/{len(tiles)}" for number in range(len(tiles))]
    assert history["epoch"].tolist() == list(range(1, 2 * len(tiles) + 1))
