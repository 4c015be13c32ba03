"""Groups of neighbors, and overlaps."""

import itertools
import math

import numpy as np
import pytest

from ptycho.data import grouping


def jittered(rows=12, columns=12, spacing=5.0, seed=0):
    y, x = np.mgrid[:rows, :columns] * spacing
    return np.stack([y.ravel(), x.ravel()], 1) + np.random.default_rng(seed).uniform(-0.5, 0.5, (rows * columns, 2))


def draw(points, size=4, **changes):
    options = {"neighbors": 7, "n_groups": 300, "max_spread": 4, "rng": np.random.default_rng(0)}
    return grouping.group_neighbors(points, size, **options | changes)


def test_overlap_closed_forms():
    np.testing.assert_allclose(grouping.linear_overlap([0, 3, 10, 20], 10), [1, 0.7, 0, -1])
    np.testing.assert_allclose(grouping.disc_overlap([0, 10, 30], 10), [1, 0, 0], atol=1e-12)
    # half a diameter apart: 2/π (π/3 - √3/4)
    np.testing.assert_allclose(grouping.disc_overlap(5, 10), 2 / np.pi * (np.pi / 3 - np.sqrt(3) / 4))


@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_groups_are_ordered_and_none_occurs_twice(size):
    points = jittered()
    groups = draw(points, size, neighbors=9)
    assert groups.shape == (144 if size == 1 else 300, size)
    assert len({tuple(sorted(group)) for group in groups}) == len(groups)
    assert all(len(set(group)) == size for group in groups)
    order = [np.lexsort((points[group, 1], points[group, 0])).tolist() for group in groups]
    assert order == [list(range(size))] * len(groups)
    assert np.ptp(points[groups], axis=1).max() <= 4 * np.median(grouping.nearest_distances(points))


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


@pytest.mark.parametrize(("n", "k"), [(5, 0), (5, 5), (7, 3), (12, 6)])
def test_every_combination_has_one_rank(n, k):
    ranks = np.arange(math.comb(n, k))
    chosen = grouping.unrank_combinations(ranks, n, k)
    assert sorted(sorted(row) for row in chosen.tolist()) == list(map(list, itertools.combinations(range(n), k)))
    assert [sum(math.comb(c, k - i) for i, c in enumerate(row)) for row in chosen.tolist()] == (
        ranks * (k > 0)
    ).tolist()


def test_the_largest_ranks_fit():
    n, k = grouping.MAX_NEIGHBORS, grouping.MAX_NEIGHBORS // 2
    last = grouping.unrank_combinations(np.array([math.comb(n, k) - 1]), n, k)
    np.testing.assert_array_equal(last[0], np.arange(n - 1, n - 1 - k, -1))
    assert 2 * math.comb(n, k) < np.iinfo(np.int64).max


def test_all_groups_are_drawn_where_there_are_few():
    """Six exposures in a row and their two nearest: every pair of neighbors once, and those one apart at the ends."""
    points = np.stack([np.zeros(6), np.arange(6.0)], 1) * 5 + 1e-3 * np.arange(6)[:, None] ** 2
    groups = draw(points, 2, neighbors=2)
    wanted = {(i, i + 1) for i in range(5)} | {(0, 2), (3, 5)}
    assert set(map(tuple, np.sort(groups, axis=1).tolist())) == wanted
    assert len(groups) == len(wanted)


def test_large_groups_are_sampled_not_listed():
    """16 of the 32 nearest: 3e8 choices for each seed."""
    points = jittered(30, 30)
    groups = draw(points, 16, neighbors=31, n_groups=2000, max_spread=6)
    assert groups.shape == (2000, 16)
    assert len({tuple(sorted(group)) for group in groups}) == 2000
    assert set(groups.ravel()) == set(range(900))
    center = points[groups].mean(axis=1)
    assert (np.diff(center[:, 0]) >= 0).all()


def test_drawing_ends_where_no_new_group_is_found(monkeypatch):
    monkeypatch.setattr(grouping, "IDLE_ROUNDS", 50)
    rounds, draw_rounds = [], grouping._draw_rounds

    def counted(*args):
        for members in draw_rounds(*args):
            rounds.append(len(members))
            yield members

    monkeypatch.setattr(grouping, "_draw_rounds", counted)
    with pytest.raises(grouping.GroupingError, match="no group of 9"):
        draw(jittered(), 9, neighbors=20, max_spread=0.5)
    assert rounds == [144] * 50


@pytest.mark.parametrize("count", [1, 3, 4])
def test_no_more_exposures_than_a_group_needs_are_one_group(count):
    points = 40 * jittered()[:count][::-1]
    (group,) = draw(points, 4)
    assert sorted(group) == list(range(count))
    assert (np.diff(points[group, 0]) >= 0).all()


def test_a_group_around_an_exposure_has_its_nearest_of_the_others():
    points = jittered()
    others, seeds = np.arange(0, 144, 2), np.array([1, 77, 143])
    for size in (1, 2, 9):
        groups = grouping.group_around(points, seeds, others, size)
        for seed, group in zip(seeds, groups, strict=True):
            distance = np.linalg.norm(points[others] - points[seed], axis=1)
            assert set(group) == {seed, *others[np.argsort(distance)[: size - 1]]}
            assert group.tolist() == group[np.lexsort((points[group, 1], points[group, 0]))].tolist()


def test_no_group_comes_twice_where_exposures_share_a_position():
    """Their order in a group does not depend on how it was drawn."""
    points = jittered(5, 5)
    points = np.concatenate([points, points[:8]])
    groups = draw(points, 4, neighbors=8, n_groups=5000)  # all that there are
    assert len({tuple(sorted(group)) for group in groups.tolist()}) == len(groups) > 500
    for group in groups:
        assert group.tolist() == group[np.lexsort((group, points[group, 1], points[group, 0]))].tolist()


def test_groups_that_cannot_be_drawn_are_refused_with_numbers():
    with pytest.raises(grouping.GroupingError, match="no exposures"):
        draw(jittered()[:0])
    with pytest.raises(grouping.GroupingError, match=r"spreads at most 0\.5 times the median distance .*, 4\.\d px"):
        draw(jittered(), max_spread=0.5)
    with pytest.raises(grouping.GroupingError, match="at least 3 neighbors"):
        draw(jittered(), neighbors=2)
    with pytest.raises(grouping.GroupingError, match="65 neighbors to choose from; wanted at most 64"):
        draw(jittered(), neighbors=65)


def test_measured_overlap_of_a_square_lattice():
    y, x = np.mgrid[:6, :6] * 5.0
    points = np.stack([y.ravel(), x.ravel()], 1)
    groups = np.array([[0, 1, 6, 7]])
    between = grouping.measure_overlap(grouping.nearest_distances(points), 10.0)
    assert between["linear"] == pytest.approx(0.5)
    overlap = grouping.measure_groups(points, groups, 10.0)
    assert overlap["within_groups"]["linear"] == pytest.approx(0.5)  # four sides of 5, two diagonals of 7.07
    assert overlap["between_group_centers"] == {"linear": None, "disc_area": None}
