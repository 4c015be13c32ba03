"""Recorded and refined positions of a reference, judged by photons that it was not made from."""

import numpy as np

from ptycho.data.object_files import Reconstruction
from ptycho.data.scan import Scan
from ptycho.formats.reconstructions import candidate_of
from ptycho.inspection.judgment import judge
from ptycho.inspection.position_refinement import PositionRefinement
from ptycho.physics.displacement import affine_residual, rms_px


def compare_positions(recorded: Reconstruction, refined: Reconstruction, study: Scan) -> PositionRefinement:
    """Judge two reconstructions of the same exposures by the counts of a study.

    Parameters
    ----------
    recorded, refined : Reconstruction
        With recorded positions, and with refined ones, of all exposures.
    study : Scan
        Photons that neither was made from.
    """
    assert refined.refined is not None
    positions = refined.refined.positions
    assert positions is not None
    shifts = np.stack([positions.y_shift, positions.x_shift])
    before, after = (judge(candidate_of(study.path, each, study), study) for each in (recorded, refined))
    return PositionRefinement(
        moved_px=rms_px(shifts - shifts.mean(1, keepdims=True)),
        moved_affine_px=rms_px(affine_residual(shifts, np.stack([study.ycoords, study.xcoords]))[0]),
        misfit_recorded=before.misfit.ratio,
        misfit_refined=after.misfit.ratio,
    )
