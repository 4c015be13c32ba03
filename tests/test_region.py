"""The scored region: the largest rectangle that is illuminated in every view."""

import numpy as np
import pytest

from ptycho.scoring.region import Region, scored_region
from ptycho.workflow.files import ContractError


def test_scored_region_is_the_largest_lit_rectangle():
    lit = np.zeros((20, 30))
    lit[2:12, 3:25] = 1.0
    lit[12:18, 3:8] = 1.0
    other = np.ones((20, 30))
    other[:, 20:] = 0.05  # less than a tenth of its median
    assert scored_region([lit, other]) == Region(2, 12, 3, 20)
    lit[5, 10] = 0  # a hole splits it
    assert scored_region([lit, other]) == Region(6, 12, 3, 20)


def test_scored_region_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 9)) > 0.3
        region = scored_region([np.where(mask, 1.0, 1e-9)])
        assert mask[region.box].all()
        best = max(
            (b - a) * (d - c)
            for a in range(7)
            for b in range(a + 1, 8)
            for c in range(9)
            for d in range(c + 1, 10)
            if mask[a:b, c:d].all()
        )
        assert np.prod(region.shape) == best


def test_nothing_to_score_is_refused():
    lit = np.zeros((2, 8, 8))
    lit[0, :4] = lit[1, 4:] = 1.0
    with pytest.raises(ContractError, match="no pixel of the object is illuminated in every view"):
        scored_region(lit)


def test_a_region_has_a_margin_within_the_object():
    region = Region(2, 12, 3, 20)
    wide = region.widened(5, (15, 40))
    assert wide == Region(0, 15, 0, 25)
    obj = np.arange(15 * 40).reshape(15, 40)
    np.testing.assert_array_equal(obj[wide.box][region.inside(wide)], obj[region.box])
    assert (region.shape, region.origin_px) == ((10, 17), (2, 3))
