"""The reference of a measured study: LSQML for the probe, then maximum likelihood for the object."""

import numpy as np
import pytest

from ptycho.data.object_files import Reconstruction, Refined, paste
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.reference import maximize_likelihood, reconstruct_reference
from ptycho.scoring.metrics import error
from ptycho.scoring.misfit import lit_pixels, measure_misfit, misfit_of_shot_noise
from ptycho.scoring.registration import align

OPTIONS = LSQMLOptions(epochs=20, early_stopping_patience=20, batch_size=16, compact_batching_below_overlap=0.0)


def everything(scan):
    return np.arange(len(scan))


@pytest.fixture(scope="module")
def reference(scan):
    return reconstruct_reference(scan, scan.probe, OPTIONS, seed=0)


def error_of(result, scan):
    """Error where it was scanned, against the truth."""
    flux = illumination(result.refined.probe, scan.xcoords, scan.ycoords, scan.object.shape)
    obj = paste(result.object, result.origin_px, scan.object.shape, fill=1)
    box = tuple(slice(int(axis.min()), int(axis.max())) for axis in (scan.ycoords, scan.xcoords))
    return error(align(obj, scan.object[:], flux, box)[0], scan.object[:][box])


def test_it_is_closer_to_the_truth_than_lsqml_alone(scan, reference):
    run = LSQMLRun(seed=0, refine_probe=True)
    alone = reconstruct(Exposures.of(scan, everything(scan)), None, scan.probe, OPTIONS, run)
    assert error_of(reference, scan) < 0.9 * error_of(alone, scan)
    assert len(reference.history) == OPTIONS.epochs
    assert 0 < reference.chosen["iterations"] <= 60


def test_photons_that_it_was_not_made_from_are_predicted_as_well_as_shot_noise_lets_them(scan, reference):
    """A right scan is not warned of."""
    mean = predict_intensity(scan.object[:], scan.probe, scan.xcoords, scan.ycoords)
    obj = np.pad(reference.object, 2, "edge")
    origin = np.subtract(reference.origin_px, 2)
    predicted = predict_intensity(obj, reference.refined.probe, scan.xcoords, scan.ycoords, origin)
    misfit = measure_misfit([(np.random.default_rng(5).poisson(mean), predicted)])
    estimated = lit_pixels(reference.illumination) + scan.probe.size
    assert misfit.ratio < misfit_of_shot_noise(estimated / len(scan), float(misfit.expected.mean()))


def test_the_likelihood_falls_and_the_probe_stays(scan):
    counts, probe = Counts.of(scan, everything(scan)), 0.99 * scan.probe
    height, width = scan.object.shape
    start = Reconstruction(
        object=np.ones((height + 4, width + 4), np.complex64),
        illumination=np.ones((height + 4, width + 4)),
        origin_px=(-2, -2),
        refined=Refined(probe=probe),
    )
    fitted = maximize_likelihood(counts, start, iterations=5)
    likelihood = Likelihood(counts, probe)
    assert fitted.origin_px == likelihood.origin_px
    assert likelihood(fitted.object)[0] < 0.5 * likelihood(np.ones(likelihood.shape, np.complex64))[0]
    np.testing.assert_array_equal(fitted.refined.probe, probe)
    assert fitted.chosen == {"iterations": 5}
