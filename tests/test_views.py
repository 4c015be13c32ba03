"""Views: exposures of a given overlap, and their roles."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho.data import selection, views
from ptycho.data.grouping import nearest_distances
from ptycho.data.views import (
    FIT,
    HOLDOUT,
    VALIDATION,
    GroupingOptions,
    make_view,
    open_view,
    save_view,
    whole_view,
    with_groups,
)
from tests.test_grouping import jittered

OPTIONS = GroupingOptions(gridsize=2, neighbors=7, n_groups=50, max_spread=6, holdout_fraction=0.1)


def grouped(scan, target, options):
    rng = np.random.default_rng(0)
    return with_groups(make_view(scan, target, options.holdout_fraction, rng), scan, options, rng)


@settings(max_examples=20, deadline=None)
@given(target=st.floats(0.0, 0.5), seed=st.integers(0, 3))
def test_a_view_meets_its_target(target, seed):
    points = jittered(20, 20, seed=seed)
    kept = selection.select_view(points, 20.0, target)
    assert abs(selection.median_overlap(points[kept], 20.0) - target) <= 0.05
    np.testing.assert_array_equal(kept, selection.select_view(points, 20.0, target))


def test_all_exposures_are_kept_where_the_overlap_is_within_the_tolerance():
    points = jittered()
    overlap = selection.median_overlap(points, 20.0)
    assert len(selection.select_view(points, 20.0, overlap + 0.04)) == len(points)


def test_an_overlap_out_of_range_is_refused_with_the_range():
    with pytest.raises(selection.ViewError, match=r"0\.95 .* cannot be met: .* gives"):
        selection.select_view(jittered(), 20.0, 0.95)


def test_subsampled_positions_keep_their_distance_and_leave_no_gap():
    points = jittered()
    kept = selection.subsample_positions(points, 8.0)
    assert kept[0] == 0
    assert nearest_distances(points[kept]).min() >= 8.0
    distance = np.linalg.norm(points[:, None] - points[kept], axis=-1)
    assert distance.min(axis=1).max() < 8.0  # every other one is near one that is kept
    assert len(selection.subsample_positions(points, 1e6)) == 1


def test_roles_are_disjoint_and_counted():
    role = views.draw_roles(100, 0.05, np.random.default_rng(0))
    assert views.ROLES == ("fit", "validation", "holdout")
    assert [(role == code).sum() for code in (views.FIT, views.VALIDATION, views.HOLDOUT)] == [90, 5, 5]
    with pytest.raises(selection.ViewError, match="2 exposures"):
        views.draw_roles(2, 0.05, np.random.default_rng(0))


@pytest.mark.parametrize("gridsize", [1, 2, 4])
def test_groups_train_on_fit_exposures_and_validate_around_each_validation_exposure(scan, gridsize):
    options = replace(OPTIONS, gridsize=gridsize, neighbors=20, n_groups=30)
    view = grouped(scan, 0.7, options)
    fit, validation = view.of_role(FIT), view.of_role(VALIDATION)
    assert view.nn_indices.shape[1] == view.metadata["group_size"] == gridsize**2
    validated = np.isin(view.nn_indices, validation)
    assert np.isin(view.nn_indices, fit).sum() + validated.sum() == view.nn_indices.size  # none is holdout
    assert sorted(view.nn_indices[validated]) == validation.tolist()  # each in one group, which has no other
    counts = view.metadata["counts"]
    assert (counts["groups"], counts["validation_groups"]) == (30, len(validation))
    assert (~validated.any(axis=1)).sum() == 30
    points = np.stack([scan.ycoords, scan.xcoords], axis=1)
    for group in view.nn_indices[validated.any(axis=1)]:
        (seed,) = np.intersect1d(group, validation)
        distance = np.linalg.norm(points[fit] - points[seed], axis=1)
        assert set(group) == {seed, *fit[np.argsort(distance)[: gridsize**2 - 1]]}
    assert (np.diff(points[view.nn_indices, 0].mean(axis=1)) >= 0).all()


def test_a_view_has_no_groups_before_they_are_drawn_and_keeps_all_else(scan):
    view = make_view(scan, 0.7, OPTIONS.holdout_fraction, np.random.default_rng(0))
    assert not len(view.nn_indices)
    assert set(view.metadata["overlap"]) == {"between_exposures"}
    assert "groups" not in view.metadata["counts"]
    again = grouped(scan, 0.7, OPTIONS)
    np.testing.assert_array_equal(again.exposures, view.exposures)
    np.testing.assert_array_equal(again.role, view.role)
    for key in ("counts", "overlap"):
        assert view.metadata[key].items() < again.metadata[key].items()


def test_a_group_of_a_sparse_view_is_all_its_fit_exposures(scan):
    view = grouped(scan, 0.2, replace(OPTIONS, gridsize=4, neighbors=20))
    fit, validation = view.of_role(FIT), view.of_role(VALIDATION)
    assert 1 < len(fit) < 16
    (training,) = view.nn_indices[~np.isin(view.nn_indices, validation).any(axis=1)]
    assert sorted(training) == fit.tolist()
    assert view.nn_indices.shape == (1 + len(validation), len(fit))
    assert view.metadata["counts"]["groups"] == 1
    assert not np.isin(view.nn_indices, view.of_role(HOLDOUT)).any()


def test_a_saved_view_is_opened_as_it_was(scan, tmp_path):
    view = grouped(scan, 0.7, OPTIONS)
    save_view(tmp_path / "view.npz", view)
    again = open_view(tmp_path / "view.npz")
    for name in ("exposures", "role", "nn_indices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(view, name))
    assert again.metadata == view.metadata == json.loads((tmp_path / "view.json").read_text(encoding="utf-8"))


def test_a_view_of_a_whole_scan_has_roles(scan):
    view = whole_view(scan, 0.1, np.random.default_rng(0))
    assert view.exposures.tolist() == list(range(len(scan)))
    assert len(view.of_role(HOLDOUT)) == round(0.1 * len(scan))
    assert not len(view.nn_indices)
