"""Training on a part of a scan, and on photons that the network sees: what claims of papers are compared with."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.grouping import central_exposures
from ptycho.data.tiles import WHOLE_PLANE, TilingOptions, canvas_of, cut_view
from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups, open_tiles
from ptycho.model.early_stopping import TrainingError
from ptycho.model.group_examples import GroupExamples
from ptycho.model.networks import Estimator, NetworkOptions
from ptycho.model.training import TrainingOptions, TrainingRun, groups_within, train
from ptycho.reconstruction.counts import Counts
from tests.conftest import view_of

BRIEF = TrainingOptions(steps=10, learning_rate=1.0e-3, fit_fraction=0.8, loss="poisson")


def test_central_exposures_are_a_square_in_the_middle():
    y, x = np.indices((9, 9))
    points = np.stack([y.ravel(), x.ravel()], axis=1).astype(float)
    middle = central_exposures(points, 9)
    np.testing.assert_array_equal(points[middle], [(i, j) for i in (3, 4, 5) for j in (3, 4, 5)])
    assert set(middle) < set(central_exposures(points, 25))
    np.testing.assert_array_equal(central_exposures(points, 1000), np.arange(81))


def test_groups_within_hold_no_other_exposures(scan):
    container = open_groups(scan, view_of(scan))
    used = np.unique(container.nn_indices)
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    groups = groups_within(container, 20)
    allowed = used[central_exposures(points[used], 20)]
    inside = np.isin(container.nn_indices, allowed).all(axis=1)
    np.testing.assert_array_equal(groups, np.flatnonzero(inside))
    assert 0 < len(groups) < len(container)
    np.testing.assert_array_equal(groups_within(container, None), np.arange(len(container)))
    np.testing.assert_array_equal(groups_within(container, len(used)), np.arange(len(container)))


def test_training_reads_no_exposure_outside_its_part(scan, monkeypatch):
    view, read = view_of(scan), set()
    container = open_groups(scan, view)
    gather = type(container).group_frames
    monkeypatch.setattr(
        type(container),
        "group_frames",
        lambda self, group, which: (read.update(self.members(group)[which].tolist()), gather(self, group, which))[1],
    )
    used = np.unique(container.nn_indices)
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    count = 32
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=0)
    train("pinn", container, NetworkOptions(filters=1, physics_iterations=1), replace(BRIEF, exposures=count), run)
    assert read
    assert read <= set(used[central_exposures(points[used], count)].tolist())


def test_the_target_of_all_photons_is_the_measured_pattern(scan):
    container = open_groups(scan, view_of(scan))
    estimator = Estimator(physics_iterations=1, transmittance=0.8, n_pixels=64)
    examples = GroupExamples(container=container, estimator=estimator, fit_fraction=0.8)
    everything, unseen = (make(0, np.random.default_rng(0)) for make in (examples.all_photons, examples.photons))
    np.testing.assert_array_equal(everything.features, unseen.features)
    photons = float(Counts.of_group(container, 0).photons())
    assert everything.target["frames"].sum() == pytest.approx(photons, rel=1e-5)
    assert unseen.target["frames"].sum() == pytest.approx(0.2 * photons, rel=0.05)
    ratio = np.sum(np.abs(unseen.target["probes"]) ** 2) / np.sum(np.abs(everything.target["probes"]) ** 2)
    assert ratio == pytest.approx(0.2, rel=1e-4)


def test_an_unknown_target_is_refused(scan):
    view = view_of(scan)
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=0)
    options = replace(BRIEF, target="some")
    with pytest.raises(TrainingError, match="target 'some'; wanted one of"):
        train("pinn", open_groups(scan, view), NetworkOptions(filters=1, physics_iterations=1), options, run)


def test_a_tile_of_no_extent_is_one_exposure(scan):
    exposures = np.arange(0, len(scan), 2)
    tiles = cut_view(scan, exposures, TilingOptions(tile_px=0, halo_px=None))
    assert [tile.exposures.tolist() for tile in tiles] == [[number] for number in exposures.tolist()]
    assert {tile.core for tile in tiles} == {WHOLE_PLANE}
    flux = np.random.default_rng(0).random((64, 64))
    np.testing.assert_allclose(canvas_of(tiles[0], np.ones((64, 64)), flux, (3, 4)).weight, flux)
    assert open_tiles(scan, tiles).channels == 1
