"""Sections of `benchmarks/gpu_check.py`: time of the parts."""

from typing import Any

import numpy as np
from gpu_scans import Scan, repeated_scan
from gpu_setup import Setup

from ptycho.reconstruction import devices
from ptycho.reconstruction.devices import GPU, Device
from ptycho.reconstruction.lbfgs import Pairs
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import LBFGS_MEMORY, TV_SMOOTHING, Preconditioner


def speed(setup: Setup) -> dict[str, Any]:
    """Patterns per second of one evaluation, value and gradient, and the share of the bandwidth that it takes.

    Bytes of a pattern of n² pixels, one mode: 84 n². Exit waves read 8 (probe) and write 8; each FFT reads 8 and writes
    8; the comparison reads 8 + 4 and writes 8; the sum reads 16. The object and the sums stay in the cache.
    """
    found: dict[str, Any] = {}
    for n, count in ((64, 20_000), (128, 5_000), (256, 1_250)):
        scan = repeated_scan(64 if setup.small else count, n)
        likelihood = Likelihood(scan.counts, scan.probe, device=setup.device)
        _, loaded = setup.once(likelihood.illumination)
        rate = _rate(setup, scan, likelihood)
        found[str(n)] = {
            "exposures": len(scan.counts),
            "seconds": len(scan.counts) / rate,
            "patterns_per_s": rate,
            "bytes_per_pattern": 84 * n * n,
            "fraction_of_copy_bandwidth": rate * 84 * n * n / setup.bandwidth,
            "seconds_to_load": loaded,
            "parts_us_per_pattern": _parts(setup, likelihood, scan),
        }
        if n == 64 and not setup.device.is_host:
            plain = Likelihood(scan.counts, scan.probe, device=setup.plain)
            found["64"]["plain_patterns_per_s"] = _rate(setup, scan, plain)
    return found | {"pool_GB": setup.pool_gb()}


def _rate(setup: Setup, scan: Scan, likelihood: Likelihood, least: float = 0.5) -> float:
    """Return patterns per second of an evaluation."""
    obj = likelihood.device.to_device(scan.on_canvas(likelihood))
    return len(scan.counts) / setup.seconds(lambda: likelihood.evaluate(obj), least)


def _parts(setup: Setup, likelihood: Likelihood, scan: Scan) -> dict[str, float]:
    """Return the time of the passes of one block [us a pattern]."""
    device, passes = setup.device, setup.device.passes
    if not hasattr(passes, "illuminate"):
        return {}
    part, obj = next(likelihood.parts), device.to_device(scan.on_canvas(likelihood))
    (frames, probes), windows = likelihood.block(part), likelihood.windows(part)
    gradient, waves = device.xp.zeros(obj.shape, np.complex64), passes.illuminate(obj, probes, windows)
    tasks = {
        "illuminate": lambda: passes.illuminate(obj, probes, windows),
        "fft": lambda: device.fft.fft2(waves, overwrite_x=True),
        "compare": lambda: passes.compare(waves, frames, likelihood.expected),
        "collect": lambda: passes.collect(gradient, waves, probes, windows),
    }
    return {name: 1e6 * setup.seconds(task, 0.2) / len(frames) for name, task in tasks.items()}


def block_sizes(setup: Setup) -> dict[str, Any]:
    """Patterns per second at 64 px with other sizes of the waves that are worked on at a time."""
    found, chosen, scan = {}, devices.WAVES_BYTES, repeated_scan(64 if setup.small else 20_000, 64)
    try:
        for size in (16, 64, 256, 512):
            devices.WAVES_BYTES = size << 20
            likelihood = Likelihood(scan.counts, scan.probe, device=setup.device)
            found[f"{size} MiB"] = _rate(setup, scan, likelihood, 0.2)
    finally:
        devices.WAVES_BYTES = chosen
    return found


class InTurn(GPU):
    """A GPU that reads, copies and computes one after another."""

    stream = Device.stream


def streaming(setup: Setup) -> dict[str, Any]:
    """Patterns per second, at 64 px, of exposures that the device may not keep; the same bits as of those it keeps."""
    scan = repeated_scan(64 if setup.small else 40_000, 64)
    kept = Likelihood(scan.counts, scan.probe, device=setup.device)
    obj = setup.device.to_device(scan.on_canvas(kept))
    value, gradient = kept.evaluate(obj)
    found = {"exposures": len(scan.counts), "kept": _rate(setup, scan, kept)}
    for name, kind in {"overlapped": GPU, "one after another": InTurn}.items():
        device = setup.device
        if not device.is_host:
            fields = {name: getattr(device, name) for name in ("name", "xp", "fft", "passes", "free_at_start")}
            device = kind(**fields, memory_fraction=0.0)
        likelihood = Likelihood(scan.counts, scan.probe, device=device, cache_bytes=int(not device.is_host))
        (again, streamed), host = likelihood.evaluate(obj), setup.device.to_host
        same = again == value and bool((host(streamed) == host(gradient)).all())
        found[name] = {"patterns_per_s": _rate(setup, scan, likelihood), "same_bits": same}
    frames = np.empty((1024, 64, 64), np.float32)
    numbers = np.arange(min(len(frames), len(scan.counts)))
    seconds = setup.seconds(lambda: frames.__setitem__(slice(len(numbers)), scan.counts.frames(numbers)), 0.2)
    return found | {"read_alone": len(numbers) / seconds}


def iteration(setup: Setup) -> dict[str, Any]:
    """Time of the parts of an iteration of TV-MAP [ms]."""
    return {name: _iteration(setup, scan) for name, scan in (("study", setup.study), ("large", setup.large))}


def _iteration(setup: Setup, scan: Scan) -> dict[str, float]:
    device, likelihood = setup.device, Likelihood(scan.counts, scan.probe, device=setup.device)
    obj = device.to_device(scan.on_canvas(likelihood))
    gradient, preconditioner = likelihood(obj)[1], Preconditioner(likelihood.illumination(), device)
    pairs, slope = Pairs(LBFGS_MEMORY, 2 * obj.size, device), preconditioner.adjoint(gradient)
    for number in range(LBFGS_MEMORY):
        change = slope * (1 + 0.1 * number)
        change[number::LBFGS_MEMORY] *= 2
        pairs.add(slope * 0.5, slope, slope + change)
    tasks = {
        "likelihood": lambda: likelihood.evaluate(obj),
        "last_object": lambda: likelihood(obj),
        "total_variation": lambda: device.passes.total_variation(obj, TV_SMOOTHING),
        "step": lambda: preconditioner.step(slope),
        "adjoint": lambda: preconditioner.adjoint(gradient),
        "pair": lambda: pairs.add(slope, slope, change),
        "direction": lambda: pairs.direction(slope),
        "product": lambda: float(device.xp.dot(slope, slope)),
    }
    return {part: 1e3 * setup.seconds(task, 0.2) for part, task in tasks.items()}
