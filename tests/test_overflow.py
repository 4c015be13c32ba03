"""Positions and counts that integers do not hold, boxes that lie beside each other: refused, never wrapped around."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction, paste, save_reconstruction
from ptycho.physics.forward import MAX_POSITION_PX, cut_patches, illumination, predict_intensity, split_position
from ptycho.physics.noise import split_photons, whole_counts
from ptycho.reconstruction.counts import Counts
from ptycho.scoring.placement import load_on_grid
from ptycho.workflow.files import ContractError

FAR = [2.0**63 - 1024, 2.0**62, 2 * MAX_POSITION_PX, -(2.0**63), -1e300, np.inf, np.nan]


@pytest.mark.parametrize("far", FAR)
def test_a_position_that_is_no_pixel_is_refused_by_all_that_takes_positions(far):
    """With 2⁶³ - 1024, the end of a window was a negative integer and passed for one in the object."""
    at, middle, obj, probe = np.array([far]), np.array([9.0]), np.ones((20, 30), complex), np.ones((8, 8), complex)
    for x, y in ((at, middle), (middle, at)):
        for use in (
            lambda x, y: cut_patches(obj, x, y, 8),
            lambda x, y: predict_intensity(obj, probe, x, y),
            lambda x, y: illumination(probe, x, y, obj.shape),
            lambda x, y: Canvas.around(x, y, 8),
        ):
            with pytest.raises(ValueError, match=r"a position of ±.* px; wanted finite ones"):
                use(x, y)


def test_the_farthest_position_is_split_exactly():
    pixel, rest = split_position([MAX_POSITION_PX, -MAX_POSITION_PX, MAX_POSITION_PX / 2 + 0.5])
    assert pixel.tolist() == [2**52, -(2**52), 2**51 + 1]
    assert rest.tolist() == [0, 0, -0.5]


@pytest.mark.parametrize("amplitude", [1e8, 1e10, 3e38, np.inf, np.nan])
def test_counts_that_are_more_than_integers_hold_are_refused(scan, amplitude):
    """1e20 photons, from one flipped bit of a frame, were -2⁶³ when they were split."""
    frames = np.array(scan.diffraction[:8])
    frames[5, 3, 3] = amplitude
    counts = Counts.of(replace(scan, diffraction=frames), np.array([1, 2, 5]))
    with pytest.raises(ContractError, match=r"scan\.npz: exposures \[5\]: counts that are not finite .* above 9\.007e"):
        counts.photons()
    with pytest.raises(ContractError, match=r"x\.npz: 'diffraction' squared is .*; wanted"):
        whole_counts(frames[5], "x.npz")
    with pytest.raises(ValueError, match="photons can be split only if every count"):
        split_photons(np.square(frames[5], dtype=np.float64), 0.5, np.random.default_rng(0))


@pytest.mark.parametrize("origin", [(-100, 0), (0, -3), (200, 0), (0, 9), (-(2**40), 2**40)])
def test_an_object_beside_the_object_plane_is_not_pasted_and_not_scored(tmp_path, origin):
    obj = np.full((6, 3), 5, np.complex64)
    assert (paste(obj, origin, (200, 9), fill=1) == 1).all()
    path = tmp_path / "object.npz"
    save_reconstruction(path, Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=origin))
    with pytest.raises(ContractError, match=r"object\.npz: an object of \(6, 3\) px from 'origin_px' .* \(200, 9\) px"):
        load_on_grid(path, (200, 9))


def test_an_object_with_one_pixel_on_the_object_plane_is_pasted(tmp_path):
    obj, path = np.full((6, 3), 5, np.complex64), tmp_path / "object.npz"
    save_reconstruction(path, Reconstruction(object=1j * obj, illumination=np.ones(obj.shape), origin_px=(-5, 8)))
    grid, _ = load_on_grid(path, (200, 9))
    assert np.argwhere(grid == 5j).tolist() == [[0, 8]]
