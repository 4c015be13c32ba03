"""pty-chi's engines: the options that each is given, where it computes, and what a watcher sees."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.physics.detector import Detector
from ptycho.reconstruction import devices
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.ptychi_engines import (
    ENGINES,
    EPIE,
    HESSIAN_CG,
    HESSIAN_GD,
    LSQML,
    RPIE,
    Solver,
    setup_of,
    torch_device,
)
from tests.test_lsqml import misfit
from tests.workflow import config_file, rules_of

OPTIONS = LSQMLOptions(epochs=12, early_stopping_patience=12, batch_size=16, compact_batching_below_overlap=0.0)
SOLVER = Solver(engine=LSQML, device="cpu", epochs=3, batch_size=16, seed=0, step_size=1.0)


@pytest.mark.parametrize("engine", [EPIE, HESSIAN_CG, HESSIAN_GD])
def test_an_engine_finds_the_object_on_its_own_pixels(scan, engine):
    """Not rPIE with a small α, which diverges in batches of exposures that overlap so much."""
    exposures = Exposures.of(scan, np.arange(len(scan)))
    result = reconstruct(exposures, None, scan.probe, OPTIONS, LSQMLRun(seed=0, engine=engine))
    error, factor = misfit(result, scan)
    assert error < 0.25
    assert abs(abs(factor) - 1) < 0.05
    for shift in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        assert error < 0.9 * misfit(result, scan, shift)[0]


def test_bad_pixels_are_not_fitted(scan):
    """Whatever stands in them."""
    bad = np.zeros((scan.n_pixels, scan.n_pixels), bool)
    bad[20:24] = True
    exposures, detector = Exposures.of(scan, np.arange(len(scan))), Detector(bad_pixels=bad)
    for engine in (EPIE, HESSIAN_CG):
        results = []
        for value in (0.0, 9.0):
            frames = np.where(bad, np.float32(value), exposures.diffraction)
            masked, run = replace(exposures, diffraction=frames, detector=detector), LSQMLRun(seed=0, engine=engine)
            results.append(reconstruct(masked, None, scan.probe, replace(OPTIONS, epochs=2), run).object)
        np.testing.assert_allclose(*results, atol=1e-5)


def test_what_an_engine_would_not_see_is_refused(scan):
    exposures = Exposures.of(scan, np.arange(len(scan)))
    dark = replace(exposures, detector=Detector(background=np.ones((scan.n_pixels, scan.n_pixels), np.float32)))
    refused = (
        (exposures, {"refine_probe": True}, "a probe or positions to refine"),
        (exposures, {"refine_positions": True}, "a probe or positions to refine"),
        (exposures, {"stabilize": True}, "stabilized roots"),
        (dark, {}, "a detector with background or flux"),
    )
    for data, changes, message in refused:
        with pytest.raises(ValueError, match=f"engine rpie: {message}; wanted lsqml for that"):
            reconstruct(data, None, scan.probe, OPTIONS, LSQMLRun(seed=0, engine=RPIE, **changes))
    with pytest.raises(
        ValueError, match="engine: 'pie'; wanted one of lsqml, rpie, epie, bilinear_hessian_cg, bilinear_hessian_gd"
    ):
        reconstruct(exposures, None, scan.probe, OPTIONS, LSQMLRun(seed=0, engine="pie"))


class Enough(Exception):
    """What a watcher raises."""


def test_a_watcher_sees_every_epoch_and_can_end_the_run(scan):
    import torch

    exposures, seen = Exposures.of(scan, np.arange(len(scan))), []
    options = replace(OPTIONS, epochs=3)
    result = reconstruct(exposures, None, scan.probe, options, LSQMLRun(seed=0, watch=seen.append))
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[-1], result.object)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3

    def stop(obj):
        raise Enough

    with pytest.raises(Enough):
        reconstruct(exposures, None, scan.probe, options, LSQMLRun(seed=0, watch=stop))
    assert (str(torch.get_default_device()), torch.get_default_dtype()) == ("cpu", torch.float32)


def test_the_options_of_pty_chi():
    import ptychi.api as api

    for engine in ENGINES:
        setup = setup_of(replace(SOLVER, engine=engine, step_size=1.5), 100)
        options = setup.reconstructor_options
        assert (options.default_device, options.num_epochs, options.random_seed) == (api.Devices.CPU, 3, 0)
        assert options.batch_size == (100 if engine == HESSIAN_CG else 16)
        assert not setup.probe_options.optimizable
        assert not setup.object_options.remove_object_probe_ambiguity.enabled
        assert setup.object_options.step_size == 1.5
    assert setup_of(replace(SOLVER, device="cuda"), 9).reconstructor_options.default_device == api.Devices.GPU
    assert [setup_of(replace(SOLVER, engine=engine), 9).object_options.alpha for engine in (RPIE, EPIE)] == [0.1, 1]
    methods = [setup_of(replace(SOLVER, engine=engine), 9).reconstructor_options.method for engine in ENGINES[3:]]
    assert methods == ["CG", "GD"]
    assert setup_of(replace(SOLVER, free_probe=True), 9).probe_options.optimizable


def test_without_a_gpu_the_cpu_is_taken_without_a_word(monkeypatch, log):
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    assert torch_device.__wrapped__("auto") == torch_device.__wrapped__("cpu") == "cpu"
    assert not log.records
    with pytest.raises(ValueError, match="device: 'cuda'; wanted one of auto, cpu, gpu"):
        torch_device.__wrapped__("cuda")


def test_a_gpu_that_pytorch_does_not_see_is_worth_a_line(monkeypatch, log):
    import torch

    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device.__wrapped__("auto") == "cpu"
    (line,) = log.messages
    assert "There is a GPU, but LSQML is computed on the CPU" in line
    with pytest.raises(ValueError, match=r"device: gpu cannot be used \(PyTorch .*wanted a build of PyTorch with CUDA"):
        torch_device.__wrapped__("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device.__wrapped__("auto") == torch_device.__wrapped__("gpu") == "cuda"
    assert torch_device.__wrapped__("cpu") == "cpu"


def test_the_log_says_where_it_computes_and_a_gpu_that_is_not_there_is_refused(scan, monkeypatch, log):
    exposures, options = Exposures.of(scan, np.arange(len(scan))), replace(OPTIONS, epochs=1)
    reconstruct(exposures, None, scan.probe, replace(options, device="cpu"), LSQMLRun(seed=0))
    assert "lsqml of pty-chi is computed on the CPU" in log.messages
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    torch_device.cache_clear()
    with pytest.raises(ValueError, match="device: gpu cannot be used"):
        reconstruct(exposures, None, scan.probe, replace(options, device="gpu"), LSQMLRun(seed=0))


def test_jobs_that_are_to_compute_on_a_gpu_have_one(tmp_path):
    rules = rules_of(tmp_path, config_file(tmp_path, methods=["lsqml", "tv"], lsqml__device="gpu"))
    assert [rules[name]["gpu"][0] for name in ("lsqml", "lsqml_half", "tv")] == [1, 1, 0]
