"""Traces of held-out deviance, by which benchmarks/peers.py compares methods."""

import sys

import numpy as np
import pytest

from ptycho.data.object_files import Reconstruction
from ptycho.reconstruction import devices
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.exposures import Exposures
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from tests.workflow import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # programs import each other by their names

from traces import Trace, watched_likelihood


def trace_of(scan, **changes):
    """A trace whose clock shows one second more whenever it is looked at."""
    seconds, holdout = iter(range(1000)), np.arange(0, len(scan), 10)
    used = np.setdiff1d(np.arange(len(scan)), holdout)
    return Trace(scan, used, Exposures.of(scan, holdout), lambda: float(next(seconds)), **changes)


def objects(scan):
    """Worse and better ones, with the truth among them, beginning at (0, 0)."""
    return [scan.object[:] * np.complex64(factor) for factor in (0.7, 0.9, 0.8, 1.0, 0.95, 0.6)]


def test_a_trace_keeps_what_is_better_than_all_before(scan):
    trace = trace_of(scan)

    def method():
        for obj in objects(scan):
            trace.see(obj, (0, 0))
        return Reconstruction(object=objects(scan)[1], illumination=np.ones(scan.object.shape), origin_px=(0, 0))

    trace.run(method)
    assert trace.seconds == [1, 2, 3, 4, 5, 6, 7]  # of the method alone: one between two looks at the clock
    assert trace.total_s == 7
    assert [point.seconds for point in trace.points] == [1, 2, 4]
    np.testing.assert_array_equal(trace.best.object, scan.object[:])
    assert trace.deviances[6] == trace.deviances[1]
    near = trace.first_below(trace.points[1].deviance)
    assert (near.seconds, trace.first_below(0)) == (2, None)


def test_the_deviance_is_that_of_the_holdout_exposures_wherever_the_object_begins(scan):
    from ptycho.physics.forward import predict_intensity

    trace, obj = trace_of(scan), scan.object[:]
    x, y = trace.holdout.xcoords, trace.holdout.ycoords
    expected = trace.holdout.deviance(predict_intensity(obj, scan.probe, x, y))
    assert trace.deviance(obj, (0, 0)) == pytest.approx(expected, rel=1e-6)
    assert trace.deviance(np.pad(obj, ((5, 0), (3, 0))), (-5, -3)) == pytest.approx(expected, rel=1e-6)
    assert trace.deviance(obj, (1, 0)) > 1.1 * expected


@pytest.mark.parametrize(("limits", "count"), [({"patience": 2}, 6), ({"patience": 1}, 3), ({"most": 4}, 4)])
def test_a_trace_ends_a_method(scan, limits, count):
    trace = trace_of(scan, **limits)

    def method():
        for obj in objects(scan):
            trace.see(obj, (0, 0))
        raise AssertionError("not ended")

    trace.run(method)
    assert len(trace.seconds) == count


def test_objects_of_the_likelihood_are_seen_and_only_inside(scan):
    trace, evaluate = trace_of(scan), Likelihood.evaluate
    likelihood = Likelihood(Counts.of(scan, trace.used), scan.probe)
    flat = np.full(likelihood.shape, 0.9, np.complex64)

    def method():
        obj, *_ = minimize(likelihood, flat, 1.0, 5)
        return Reconstruction(object=obj, illumination=likelihood.illumination(), origin_px=likelihood.origin_px)

    with watched_likelihood(trace):
        trace.run(method)
    assert Likelihood.evaluate is evaluate
    assert len(trace.seconds) >= 6
    assert trace.deviances[-1] == min(trace.deviances) < 0.8 * trace.deviances[0]
    lit = trace.reconstruction(trace.best)
    np.testing.assert_allclose(lit.illumination, likelihood.illumination(), rtol=1e-3)


def test_a_comparison_on_a_gpu_that_is_not_there_is_refused(monkeypatch, capsys):
    import peers

    def no_gpu():
        raise ImportError("No module named 'cupy'")

    monkeypatch.setattr(devices, "gpu", no_gpu)
    monkeypatch.setattr(sys, "argv", ["peers.py", "results/default", "--device", "gpu"])
    devices.choose_device.cache_clear()
    with pytest.raises(SystemExit):
        peers.main()
    assert "error: device: gpu cannot be used (ImportError: No module named 'cupy')" in capsys.readouterr().err
