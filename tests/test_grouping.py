"""Groups of neighbors, and overlaps."""

import numpy as np
import pytest

from ptycho.data import grouping


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
    with pytest.raises(grouping.GroupingError, match="3 exposures are too few for groups of 4"):
        draw(jittered()[:3])
    with pytest.raises(grouping.GroupingError, match=r"spreads at most 2\.0 px"):
        draw(jittered(), max_spread_px=2.0)
    with pytest.raises(grouping.GroupingError, match="at least 3 neighbors"):
        draw(jittered(), neighbors=2)


def test_measured_overlap_of_a_square_lattice():
    y, x = np.mgrid[:6, :6] * 5.0
    points = np.stack([y.ravel(), x.ravel()], 1)
    groups = np.array([[0, 1, 6, 7]])
    overlap = grouping.measure_overlap(points, groups, 10.0)
    assert overlap["between_exposures"]["linear"] == pytest.approx(0.5)
    assert overlap["within_groups"]["linear"] == pytest.approx(0.5)  # four sides of 5, two diagonals of 7.07
    assert overlap["between_group_centers"] == {"linear": None, "disc_area": None}
