"""The scale of the positions: an error of a few percent is measured, and no other error is taken for one."""

import numpy as np
import pytest

from ptycho.inspection import scale
from ptycho.inspection.orientation import AS_IS
from ptycho.inspection.orientation_search import LONG_ITERATIONS, read_long_trial
from ptycho.inspection.scale import Scale, check_scale, try_scales
from ptycho.inspection.trials import run_trials
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import add_modes, scale_to
from ptycho.reconstruction.free_probe import STEP
from tests.faulty_scans import N, beam, right, write

DOSE = 250_000


def scale_of(path, raw):
    """As the check does it where the orientation is known."""
    scan = write(path / "scan.npz", raw)
    data = read_long_trial(scan, np.ones(len(scan), bool), np.ones((N, N), bool))
    return try_scales(data, run_trials(data, [AS_IS], LONG_ITERATIONS, STEP)[0])


@pytest.mark.parametrize(
    ("factor", "kind", "seed"), [(1.05, "dead_leaves", 4), (0.95, "lines", 5), (1.12, "siemens", 6)]
)
def test_a_wrong_scale_is_measured(tmp_path, factor, kind, seed):
    raw = right(dose=DOSE, kind=kind, seed=seed)
    found = scale_of(tmp_path, raw.changed(xcoords=factor * raw.xcoords, ycoords=factor * raw.ycoords))
    assert found.factor == pytest.approx(1 / factor, abs=0.012)
    assert found.margin > scale.MARGIN
    (finding,) = check_scale(found)
    assert (finding.topic, finding.level) == ("positions", "warning")
    assert f"all positions times {found.factor:.2f} predict exposures better" in finding.text
    assert "--distance, --energy, --detector-pixel" in finding.remedy


@pytest.mark.parametrize(("kind", "seed"), [("dead_leaves", 3), ("dead_leaves", 8), ("lines", 9), ("siemens", 10)])
def test_a_right_scale_is_right(tmp_path, kind, seed):
    found = scale_of(tmp_path, right(dose=DOSE, kind=kind, seed=seed))
    assert found.factor == 1
    assert found.is_told
    (finding,) = check_scale(found)
    assert finding.level == "fine"
    assert "steps 5 % smaller or larger predict exposures worse, 1." in finding.text


def test_few_photons_do_not_tell_the_scale(tmp_path):
    raw = right(dose=1000)
    for factor in (1.0, 1.05):
        found = scale_of(tmp_path, raw.changed(xcoords=factor * raw.xcoords, ycoords=factor * raw.ycoords))
        assert (found.factor, found.is_told) == (1, False)
    (finding,) = check_scale(found)
    assert (finding.level, finding.text) == ("note", "whether all steps are 5 % too small or too large cannot be told")


def faulty(name):
    """A scan with an error that is none of the scale."""
    raw, rng = right(dose=DOSE, seed=11), np.random.default_rng(0)
    if name == "partly coherent":
        modes = scale_to(add_modes(beam(), 3, fraction=0.1), DOSE)
        counts = rng.poisson(predict_intensity(raw.object, modes, raw.xcoords, raw.ycoords))
        return raw.changed(counts=counts)
    if name == "rough probe":
        return raw.changed(probe=np.abs(raw.probe) * np.exp(0.8j * np.angle(raw.probe)))
    if name == "wrong positions":
        x, y = (axis + rng.normal(0, 0.5, axis.shape) for axis in (raw.xcoords, raw.ycoords))
        return raw.changed(xcoords=x, ycoords=y)
    if name == "background":
        return raw.changed(counts=raw.counts + rng.poisson(2.0, raw.counts.shape))
    return raw.changed(counts=rng.binomial(raw.counts, rng.uniform(0.8, 1, len(raw.counts))[:, None, None]))


@pytest.mark.parametrize("name", ["partly coherent", "rough probe", "wrong positions", "background", "unsteady flux"])
def test_other_errors_are_not_taken_for_one_of_the_scale(tmp_path, name):
    assert scale_of(tmp_path, faulty(name)).factor == 1


def test_nothing_is_said_of_what_was_not_tried():
    assert check_scale(None) == []
    assert check_scale(Scale(factor=1.0, margin=0.8, is_told=True))[0].text.endswith("worse, 1.25 times")
