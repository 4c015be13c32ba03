"""Sections of `benchmarks/gpu_check.py`: TV-MAP, refinement, the optimization of `unrolled`, and LSQML."""

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
from gpu_scans import DOSE, Scan, scan_of
from gpu_setup import Setup, relative

from ptycho.data.object_files import Reconstruction
from ptycho.physics.displacement import affine_residual, rms_px
from ptycho.reconstruction import tv
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.minibatches import minibatch_epochs
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.reconstruction.schedule import Schedule

STAGES = {"stages": 4, "minibatch_epochs": 10, "iterations": 5, "phase_iterations": 3, "final_iterations": 14}
STEP_WEIGHT = 8.0
"""Weight of the prior in the unrolled steps."""
LSQML_EPOCHS, LSQML_BATCH = 30, 96


def _run(setup: Setup, scan: Scan, options: tv.TVOptions) -> tuple[Reconstruction, dict[str, Any]]:
    """Run TV-MAP; return the reconstruction, and what it took."""
    calls, evaluate = [0], Likelihood.evaluate

    def count(likelihood, obj):
        calls[0] += 1
        return evaluate(likelihood, obj)

    Likelihood.evaluate = count
    try:
        result, seconds = setup.once(lambda: tv.reconstruct(scan.counts, scan.probe, options, seed=0))
    finally:
        Likelihood.evaluate = evaluate
    return result, {
        "seconds": seconds,
        "evaluations": calls[0],
        "ms_per_evaluation": 1e3 * seconds / calls[0],
        "tv_weight": result.chosen["tv_weight"],
        "error": _error(scan, result),
        "pool_GB": setup.pool_gb(),
    }


def _lit(result: Reconstruction):
    return result.illumination > 0.3 * result.illumination.max()


def _error(scan: Scan, result: Reconstruction) -> float:
    """Relative error against the truth where the illumination is above 30 % of its maximum, factor removed."""
    truth = np.zeros_like(result.object)  # the margin of LSQML's object may reach beyond the truth's
    (top, left), (height, width) = result.origin_px, result.object.shape
    known = scan.truth[max(top, 0) : top + height, max(left, 0) : left + width]
    truth[max(-top, 0) :, max(-left, 0) :][: known.shape[0], : known.shape[1]] = known
    obj, truth = result.object[_lit(result)], truth[_lit(result)]
    return relative(np.vdot(obj, truth) / np.vdot(obj, obj) * obj, truth)


def tv_study(setup: Setup) -> dict[str, Any]:
    """TV-MAP on the default study's dense scan, twice, since the first run starts libraries; and on the CPU.

    Wanted of the difference of the objects: at most 1e-3.
    """
    (first, once), (_, again) = (_run(setup, setup.study, setup.options) for _ in range(2))
    on_cpu, numbers = _run(setup, setup.study, replace(setup.options, device="cpu"))
    obj, expected = first.object[_lit(on_cpu)], on_cpu.object[_lit(on_cpu)]
    turn = np.vdot(obj, expected)
    difference = relative(obj * turn / abs(turn), expected)
    return {"first": once, "second": again, "cpu": numbers, "difference": difference}


def refinement(setup: Setup) -> dict[str, Any]:
    """Positions, probe and flux of a small scan refined on the device and on the CPU; positions of the default study's.

    Positions are told wrong by 2 px rms. What is left of them is with the affine map that they have in common removed.
    """
    small = scan_of(8, 6)
    found = {"small, device": _refined(setup, small, ("positions", "probe", "flux"), setup.device)}
    found["small, CPU"] = _refined(setup, small, ("positions", "probe", "flux"), CPU)
    if not setup.small:
        found["study, device"] = _refined(setup, setup.study, ("positions",), setup.device)
    return found


def _refined(setup: Setup, scan: Scan, unknown: tuple[str, ...], device: Device) -> dict[str, Any]:
    truth = np.stack([scan.counts.ycoords, scan.counts.xcoords])
    wrong = truth + np.random.default_rng(3).normal(0, np.sqrt(2), truth.shape)
    told = replace(scan.counts, ycoords=wrong[0], xcoords=wrong[1])
    options = RefinementOptions(unknown=unknown, rounds=4 if setup.small else 12)
    result, seconds = setup.once(lambda: refine(told, scan.probe, options, seed=0, device=device))
    left, _ = affine_residual(wrong - truth + result.parameters.shifts, truth)
    deviance = float(result.history["deviance"].iloc[-1])
    return {"seconds": seconds, "position_rms_px": rms_px(left), "deviance_per_pixel": deviance}


def tv_large(setup: Setup) -> dict[str, Any]:
    """TV-MAP on 20,000 exposures, in tiles as on the CPU."""
    return {"exposures": len(setup.large.counts)} | _run(setup, setup.large, setup.options)[1]


def tv_whole(setup: Setup) -> dict[str, Any]:
    """The same in one tile."""
    return _run(setup, setup.large, replace(setup.options, tile_px=1e6))[1]


def stages(setup: Setup) -> dict[str, Any]:
    """The optimization of `unrolled` without the network, and its mini-batch epochs alone."""
    found = {name: _stages(setup, scan) for name, scan in (("study", setup.study), ("large", setup.large))}
    return found | {"pool_GB": setup.pool_gb()}


def _schedule(setup: Setup, scan: Scan) -> Schedule:
    numbers = {"transmittance": scan.counts.mean_transmittance(scan.probe), "n_pixels": 64, "photons": DOSE}
    schedule = Schedule(**STAGES, post_iterations=8, tv_weight=STEP_WEIGHT, **numbers)
    return replace(schedule, minibatch_epochs=1, stages=2, final_iterations=3) if setup.small else schedule


def _stages(setup: Setup, scan: Scan) -> dict[str, Any]:
    schedule, likelihood = _schedule(setup, scan), Likelihood(scan.counts, scan.probe, device=setup.device)
    _, loaded = setup.once(likelihood.illumination)
    flat = setup.device.xp.full(likelihood.shape, schedule.transmittance, np.complex64)
    epochs = schedule.minibatch_epochs
    minibatch_epochs(likelihood, flat, 1)  # plans the FFTs of all sizes
    _, in_epochs = setup.once(lambda: minibatch_epochs(likelihood, flat, epochs))
    ends, in_stages = setup.once(lambda: schedule.before(likelihood))
    end, after = setup.once(lambda: schedule.after(likelihood, ends[-1]))
    return {
        "exposures": len(scan.counts),
        "seconds_to_load": loaded,
        "seconds_of_minibatch_epochs": in_epochs,
        "seconds_of_stages": in_stages,
        "seconds_of_final_steps": after,
        "deviance_per_pixel": 2 * likelihood(end)[0] / likelihood.n_values,
    }


def lsqml(setup: Setup) -> dict[str, Any]:
    """LSQML of pty-chi, where it is installed, on the device that `ptycho.reconstruction.lsqml` takes."""
    if importlib.util.find_spec("ptychi") is None:
        return {"skipped": "pty-chi is not installed"}
    from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, load_library, reconstruct

    load_library()
    scan, epochs = setup.study, 2 if setup.small else LSQML_EPOCHS
    amplitudes = np.sqrt(scan.counts.frames(np.arange(len(scan.counts)))).astype(np.float32)
    exposures = Exposures(amplitudes, scan.counts.xcoords, scan.counts.ycoords, scan.counts.detector)
    options = LSQMLOptions(
        epochs=epochs,
        early_stopping_patience=epochs,
        batch_size=LSQML_BATCH,
        compact_batching_below_overlap=0.0,
    )
    result, seconds = setup.once(lambda: reconstruct(exposures, None, scan.probe, options, LSQMLRun(seed=0)))
    return {"epochs": epochs, "seconds": seconds, "error": _error(scan, result)}
