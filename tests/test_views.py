"""Views: exposures of a given overlap, and their roles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho.data import views
from ptycho.data.grouping import nearest_distances
from tests.test_grouping import jittered


@settings(max_examples=20, deadline=None)
@given(target=st.floats(0.0, 0.5), seed=st.integers(0, 3))
def test_a_view_meets_its_target(target, seed):
    points = jittered(20, 20, seed=seed)
    kept = views.select_view(points, 20.0, target)
    assert abs(views.median_overlap(points[kept], 20.0) - target) <= 0.05
    np.testing.assert_array_equal(kept, views.select_view(points, 20.0, target))


def test_all_exposures_are_kept_where_the_overlap_is_within_the_tolerance():
    points = jittered()
    overlap = views.median_overlap(points, 20.0)
    assert len(views.select_view(points, 20.0, overlap + 0.04)) == len(points)


def test_an_overlap_out_of_range_is_refused_with_the_range():
    with pytest.raises(views.ViewError, match=r"0\.95 .* cannot be met: .* gives"):
        views.select_view(jittered(), 20.0, 0.95)


def test_subsampled_positions_keep_their_distance_and_leave_no_gap():
    points = jittered()
    kept = views.subsample_positions(points, 8.0)
    assert kept[0] == 0
    assert nearest_distances(points[kept]).min() >= 8.0
    distance = np.linalg.norm(points[:, None] - points[kept], axis=-1)
    assert distance.min(axis=1).max() < 8.0  # every other one is near one that is kept
    assert len(views.subsample_positions(points, 1e6)) == 1


def test_roles_are_disjoint_and_counted():
    role = views.draw_roles(100, 0.05, np.random.default_rng(0))
    assert views.ROLES == ("fit", "validation", "holdout")
    assert [(role == code).sum() for code in (views.FIT, views.VALIDATION, views.HOLDOUT)] == [90, 5, 5]
    with pytest.raises(views.ViewError, match="2 exposures"):
        views.draw_roles(2, 0.05, np.random.default_rng(0))
