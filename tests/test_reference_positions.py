"""The positions of a reference: refined with its probe, and kept where they predict photons better."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ptycho.data.refined_positions import RefinedPositions
from ptycho.data.sample_files import plane_of
from ptycho.inspection.position_refinement import KEY, PositionRefinement
from ptycho.inspection.position_trial import compare_positions
from ptycho.physics.displacement import affine_residual, rms_px
from ptycho.physics.forward import predict_intensity
from ptycho.reconstruction.reference import lsqml_options, reconstruct_reference, refine_reference
from ptycho.reconstruction.refinement import RefinementOptions
from ptycho.reporting.measured import refinement_note
from ptycho.scoring.knowledge import known_by
from ptycho.workflow.files import ContractError
from tests.faulty_scans import right, write
from tests.test_workflow import dry_run
from tests.workflow import config_file

SIDE = 6
LSQML = lsqml_options(epochs=15, batch_size=12)
EXAMPLE = PositionRefinement(moved_px=1.5, moved_affine_px=1.25, misfit_recorded=1.75, misfit_refined=1.0625)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Errors of the recorded positions, their scan, photons of a study, references with recorded and refined ones."""
    folder, raw, rng = tmp_path_factory.mktemp("positions"), right(rows=SIDE, columns=SIDE), np.random.default_rng(8)
    errors = rng.normal(0, 1.0, (2, SIDE**2))
    told = raw.changed(ycoords=raw.ycoords + errors[0], xcoords=raw.xcoords + errors[1])
    counts = rng.poisson(predict_intensity(raw.object, raw.probe, raw.xcoords, raw.ycoords))
    scan, study = write(folder / "scan.npz", told), write(folder / "study.npz", told.changed(counts=counts))
    recorded = reconstruct_reference(scan, scan.probe, LSQML, seed=0)
    options = RefinementOptions(unknown=("probe", "positions"), search_px=0.0, rounds=2)
    refined, history = refine_reference(scan, recorded.refined.probe, LSQML, options, seed=0)
    return errors, scan, study, recorded, refined, history


def test_wrong_positions_are_refined_and_predict_photons_better(references):
    errors, scan, study, recorded, refined, history = references
    gain, found = compare_positions(recorded, refined, study), known_by(refined, scan)
    assert gain.is_kept
    assert gain.misfit_refined - 1 < 0.5 * (gain.misfit_recorded - 1)
    positions = np.stack([scan.ycoords, scan.xcoords])
    shifts = np.stack([found.ycoords, found.xcoords]) - positions
    assert (np.abs(shifts.mean(1)) <= 0.5).all()
    before, after = (rms_px(affine_residual(each, positions)[0]) for each in (errors, errors + shifts))
    assert after < 0.4 * before
    assert gain.moved_affine_px == pytest.approx(rms_px(affine_residual(shifts, positions)[0]))
    assert set(history["step"]) == {"probe", "newton", "round"}
    assert list(refined.history["epoch"]) == list(range(1, LSQML.epochs + 1))


def test_positions_that_predict_photons_worse_are_not_kept(references):
    _, _, study, _, refined, _ = references
    positions = refined.refined.positions
    wrong = replace(positions, xcoords=positions.xcoords + np.random.default_rng(0).normal(0, 0.5, SIDE**2))
    gain = compare_positions(refined, replace(refined, refined=replace(refined.refined, positions=wrong)), study)
    assert not gain.is_kept
    assert "positions are the recorded ones" in refinement_note(gain)


def test_the_note_says_by_how_much():
    assert refinement_note(EXAMPLE) == (
        "Reference: positions moved by 1.5 px rms (1.2 px without their affine map); with the probe refined together "
        "with them the misfit fell from 1.75 to 1.062."
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"file.json: 'position_refinement' is '\[1\]'; wanted an object"),
        ({**EXAMPLE.as_dict(), "moved_px": "1"}, "file.json: 'position_refinement': 'moved_px' is '1'; wanted"),
        ({"moved_px": 1.0}, "file.json: 'position_refinement' has no 'moved_affine_px'"),
    ],
)
def test_what_is_no_gain_is_refused_by_name(value, message):
    with pytest.raises(ContractError, match=message):
        PositionRefinement.read({KEY: value}, "file.json")


def test_a_gain_is_read_as_it_was_written():
    assert PositionRefinement.read({KEY: EXAMPLE.as_dict()}, "file.json") == EXAMPLE
    assert PositionRefinement.read({}, "file.json") is None


@cache
def moved(exposures):
    """One pixel to the right and half a pixel up."""
    where, shift = np.array(exposures), np.ones(len(exposures))
    return RefinedPositions(
        exposures=where, xcoords=where + shift, ycoords=where - shift / 2, x_shift=shift, y_shift=-shift / 2
    )


def test_refined_positions_take_the_place_of_those_of_their_exposures():
    columns, rows = moved((1, 3)).among(np.arange(4.0), np.arange(4.0), "scan.npz")
    assert list(columns) == [0, 2, 2, 4]
    assert list(rows) == [0, 0.5, 2, 2.5]
    with pytest.raises(ContractError, match=r"^scan.npz: 3 exposures; wanted 3, whose position was refined, too$"):
        moved((1, 3)).among(np.arange(3.0), np.arange(3.0), "scan.npz")


def test_the_plane_grows_where_windows_leave_it(scan):
    exposures, shape = np.arange(len(scan)), scan.object.shape
    assert plane_of(scan, exposures) == ((0, 0), shape)
    top = round(float(scan.ycoords.min())) - scan.n_pixels // 2
    right_edge = shape[1] - round(float(scan.xcoords.max())) - scan.n_pixels // 2
    away = replace(scan, ycoords=scan.ycoords - top - 3, xcoords=scan.xcoords + right_edge + 5)
    offset, larger = plane_of(away, exposures)
    assert offset == (3, 0)
    assert larger == (shape[0] + 3, shape[1] + 5)


@pytest.mark.slow
def test_a_study_refines_them_by_default_and_starts_methods_from_what_is_recorded(tmp_path, references):
    _, scan, *_ = references
    source = {"kind": "measured", "scan": str(scan.path), "seed": 0, "train_fraction": 0.5}
    options = {"source": source, "doses": [100], "methods": ["lsqml"]}
    counts = dry_run(tmp_path, config_file(tmp_path, **options, knowledge={"probe": "refined"}))
    assert counts["refine_reference"] == counts["judge_reference"] == 1
    assert counts["recorded_knowledge"] >= 1
    exact = dry_run(tmp_path, config_file(tmp_path, **options, reference={"positions": "exact"}))
    assert not {"refine_reference", "recorded_knowledge"} & set(exact)
