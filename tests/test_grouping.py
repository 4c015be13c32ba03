"""Overlap views, roles and groups of neighbors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho.data import grouping
from ptycho.data.views import scored_region


def jittered(rows=12, columns=12, spacing=5.0, seed=0):
    y, x = np.mgrid[:rows, :columns] * spacing
    return np.stack([y.ravel(), x.ravel()], 1) + np.random.default_rng(seed).uniform(-0.5, 0.5, (rows * columns, 2))


def draw(points, size=4, **changes):
    options = {"neighbors": 7, "n_groups": 300, "max_spread_px": 20, "rng": np.random.default_rng(0)}
    return grouping.group_neighbors(points, size, **options | changes)


def test_overlap_closed_forms():
    np.testing.assert_allclose(grouping.linear_overlap([0, 3, 10, 20], 10), [1, 0.7, 0, -1])
    np.testing.assert_allclose(grouping.disc_overlap([0, 10, 30], 10), [1, 0, 0], atol=1e-12)
    # half a diameter apart: 2/π (π/3 - √3/4)
    np.testing.assert_allclose(grouping.disc_overlap(5, 10), 2 / np.pi * (np.pi / 3 - np.sqrt(3) / 4))


@pytest.mark.parametrize("size", [1, 4, 9])
def test_groups_are_ordered_and_none_occurs_twice(size):
    points = jittered()
    groups = draw(points, size, neighbors=9)
    assert groups.shape == (144 if size == 1 else 300, size)
    assert len({tuple(sorted(group)) for group in groups}) == len(groups)
    assert all(len(set(group)) == size for group in groups)
    order = [np.lexsort((points[group, 1], points[group, 0])).tolist() for group in groups]
    assert order == [list(range(size))] * len(groups)
    assert np.ptp(points[groups], axis=1).max() <= 20


def test_members_are_among_the_nearest_neighbors_of_one_of_them():
    points = jittered()
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    near = np.argsort(distance, axis=1)[:, :8]
    for group in draw(points):
        assert any(set(group) <= set(near[seed]) for seed in group)


def test_the_same_seed_repeats_the_groups_and_every_exposure_is_in_one():
    points = jittered()
    np.testing.assert_array_equal(draw(points), draw(points))
    assert set(draw(points).ravel()) == set(range(len(points)))


def test_groups_that_cannot_be_drawn_are_refused_with_numbers():
    with pytest.raises(grouping.ViewError, match="3 exposures are too few for groups of 4"):
        draw(jittered()[:3])
    with pytest.raises(grouping.ViewError, match=r"spreads at most 2\.0 px"):
        draw(jittered(), max_spread_px=2.0)
    with pytest.raises(grouping.ViewError, match="at least 3 neighbors"):
        draw(jittered(), neighbors=2)


@settings(max_examples=20, deadline=None)
@given(target=st.floats(0.0, 0.5), seed=st.integers(0, 3))
def test_a_view_meets_its_target(target, seed):
    points = jittered(20, 20, seed=seed)
    kept = grouping.select_view(points, 20.0, target)
    assert abs(grouping.median_overlap(points[kept], 20.0) - target) <= 0.05
    np.testing.assert_array_equal(kept, grouping.select_view(points, 20.0, target))


def test_all_exposures_are_kept_where_the_overlap_is_within_the_tolerance():
    points = jittered()
    overlap = grouping.median_overlap(points, 20.0)
    assert len(grouping.select_view(points, 20.0, overlap + 0.04)) == len(points)


def test_an_overlap_out_of_range_is_refused_with_the_range():
    with pytest.raises(grouping.ViewError, match=r"0\.95 .* cannot be met: .* gives"):
        grouping.select_view(jittered(), 20.0, 0.95)


def test_subsampled_positions_keep_their_distance_and_leave_no_gap():
    points = jittered()
    kept = grouping.subsample_positions(points, 8.0)
    assert kept[0] == 0
    assert grouping.nearest_distances(points[kept]).min() >= 8.0
    distance = np.linalg.norm(points[:, None] - points[kept], axis=-1)
    assert distance.min(axis=1).max() < 8.0  # every other one is near one that is kept
    assert len(grouping.subsample_positions(points, 1e6)) == 1


def test_roles_are_disjoint_and_counted():
    role = grouping.draw_roles(100, 0.05, np.random.default_rng(0))
    assert grouping.ROLES == ("fit", "validation", "holdout")
    assert [(role == code).sum() for code in (grouping.FIT, grouping.VALIDATION, grouping.HOLDOUT)] == [90, 5, 5]
    with pytest.raises(grouping.ViewError, match="2 exposures"):
        grouping.draw_roles(2, 0.05, np.random.default_rng(0))


def test_measured_overlap_of_a_square_lattice():
    y, x = np.mgrid[:6, :6] * 5.0
    points = np.stack([y.ravel(), x.ravel()], 1)
    groups = np.array([[0, 1, 6, 7]])
    overlap = grouping.measure_overlap(points, groups, 10.0)
    assert overlap["between_exposures"]["linear"] == pytest.approx(0.5)
    assert overlap["within_groups"]["linear"] == pytest.approx(0.5)  # four sides of 5, two diagonals of 7.07
    assert overlap["between_group_centers"] == {"linear": None, "disc_area": None}


def test_scored_region_is_the_largest_lit_rectangle():
    lit = np.zeros((20, 30))
    lit[2:12, 3:25] = 1.0
    lit[12:18, 3:8] = 1.0
    other = np.ones((20, 30))
    other[:, 20:] = 0.05  # less than a tenth of its median
    assert scored_region([lit, other]) == (2, 12, 3, 20)
    lit[5, 10] = 0  # a hole splits it
    assert scored_region([lit, other]) == (6, 12, 3, 20)


def test_scored_region_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 9)) > 0.3
        y0, y1, x0, x1 = scored_region([np.where(mask, 1.0, 1e-9)])
        assert mask[y0:y1, x0:x1].all()
        best = max(
            (b - a) * (d - c)
            for a in range(7)
            for b in range(a + 1, 8)
            for c in range(9)
            for d in range(c + 1, 10)
            if mask[a:b, c:d].all()
        )
        assert (y1 - y0) * (x1 - x0) == best
