"""Check TV-MAP on a GPU: agreement with the CPU, and speed.

Needs NumPy, SciPy, pandas, tqdm and CuPy alone. Prints a line of JSON per section, then all of it; a section that fails
says why, and the next one runs. `--device cpu --small` tries the program on a machine without a GPU.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from gpu_scans import DOSE, Scan, repeated_scan, scan_of

from ptycho.reconstruction import devices, tv
from ptycho.reconstruction.devices import CPU, Device, choose_device
from ptycho.reconstruction.lbfgs import Pairs
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import TV_SMOOTHING, Preconditioner, minimize
from ptycho.reconstruction.passes import Passes
from ptycho.reconstruction.schedule import Schedule
from ptycho.workflow.scheduler import visible_gpus

# The default study's settings (config/defaults.yaml, config/config.yaml): this program reads no YAML.
TV = {"lambda_max": 1024, "lambda_min": 0.125, "iterations": 40, "final_iterations": 100, "fit_fraction": 0.8}
STAGES = {"stages": 4, "minibatch_epochs": 10, "iterations": 5, "phase_iterations": 3, "final_iterations": 14}
STEP_WEIGHT = 8.0
"""Weight of the prior in the unrolled steps."""


class OwnSearch(Device):
    """NumPy with the L-BFGS that GPUs use: what of a difference is the search's, and what the device's."""

    is_host = False


OWN_SEARCH = OwnSearch("the CPU, searched as on a GPU", CPU.xp, CPU.fft, CPU.passes)


def on_canvas(scan: Scan, likelihood: Likelihood):
    """Return the truth on a likelihood's canvas."""
    (top, left), (height, width) = likelihood.origin_px, likelihood.shape
    return scan.truth[top : top + height, left : left + width].astype(np.complex64)


def relative(array, expected) -> float:
    """Norm of a difference in units of the norm of what is expected."""
    return float(np.linalg.norm(array - expected) / np.linalg.norm(expected))


class Checks:
    """The sections, each a method that returns what it measured.

    Parameters
    ----------
    device : Device
        What is checked.
    small : bool
        Sizes for a try on a CPU.
    """

    def __init__(self, device: Device, *, small: bool):
        self.device, self.small = device, small
        side = {"tile_px": 512, "device": "auto"}
        self.options = tv.TVOptions(**TV, **side)
        if small:
            less = {"lambda_max": 32, "lambda_min": 4, "iterations": 5, "final_iterations": 8}
            self.options = replace(self.options, **less)
        self.objects: dict[str, Any] = {}

    @cached_property
    def study(self) -> Scan:
        """The scan of the default study's test split."""
        return scan_of(*((6, 5) if self.small else (22, 14)))

    @cached_property
    def large(self) -> Scan:
        """20,000 exposures."""
        return scan_of(*((12, 10) if self.small else (160, 125)))

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.device.is_host:
            self.device.xp.cuda.Device().synchronize()

    def seconds(self, task: Callable[[], Any], least: float = 0.5) -> float:
        """Return the time of a task [s]: the mean of as many runs as fill half a second, after one to warm up."""
        task()
        self.synchronize()
        start, runs = time.perf_counter(), 0
        while not runs or time.perf_counter() - start < (0 if self.small else least):
            task()
            self.synchronize()
            runs += 1
        return (time.perf_counter() - start) / runs

    def machine(self) -> dict[str, Any]:
        """Versions, device and memory bandwidth."""
        found = {"device": self.device.name, "visible_gpus": visible_gpus(), "python": platform.python_version()}
        found |= {"numpy": np.__version__, "scipy": scipy.__version__, "cores": os.cpu_count()}
        if not self.device.is_host:
            xp = self.device.xp
            free, total = xp.cuda.runtime.memGetInfo()
            found |= {"cupy": xp.__version__, "cuda": xp.cuda.runtime.runtimeGetVersion(), "free_GB": free / 1e9}
            found |= {"total_GB": total / 1e9}
        array = self.device.xp.ones((1 << 20) if self.small else (1 << 28), np.float32)
        other = self.device.xp.empty_like(array)
        found["copy_GB_per_s"] = 2 * array.nbytes / self.seconds(lambda: self.device.xp.copyto(other, array)) / 1e9
        self.bandwidth = found["copy_GB_per_s"]
        return found

    def kernels(self) -> dict[str, Any]:
        """Fused passes against the plain lines on the same device, and once more: the same bits."""
        found = {}
        for name, modes, masked in (("one mode", 1, False), ("three modes, masked", 3, True)):
            scan = scan_of(6, 5, modes=modes, masked=masked)
            fused = Likelihood(scan.counts, scan.probe, device=self.device)
            plain = Likelihood(scan.counts, scan.probe, device=self._plain())
            obj = self.device.to_device(on_canvas(scan, fused) * np.float32(0.9))
            (value, gradient), (again, second) = fused.evaluate(obj), fused.evaluate(obj)
            expected, lines = plain.evaluate(obj)
            host, photons = self.device.to_host, plain.illumination()
            found[name] = {
                "value": abs(value / expected - 1),
                "gradient": relative(host(gradient), host(lines)),
                "gradient_alone": relative(host(fused.gradient(obj)), host(lines)),
                "illumination": relative(host(fused.illumination()), host(photons)),
                "repeats": value == again and bool((host(gradient) == host(second)).all()),
            }
            pairs = [device.passes.total_variation(obj, TV_SMOOTHING) for device in (fused.device, plain.device)]
            found[name]["prior"] = abs(float(pairs[0][0]) / float(pairs[1][0]) - 1)
            found[name]["prior_gradient"] = relative(*(host(pair[1]) for pair in pairs))
        rows, vector, weights = (
            self.device.to_device(np.random.default_rng(1).normal(size=shape)) for shape in ((24, 9001), 9001, 24)
        )
        passes, lines = self.device.passes, self._plain().passes
        found["project"] = relative(host(passes.project(rows, vector)), host(lines.project(rows, vector)))
        found["combine"] = relative(host(passes.combine(weights, rows)), host(lines.combine(weights, rows)))
        return found

    def _plain(self) -> Device:
        """Return the device with the plain lines in place of its kernels."""
        return replace(self.device, passes=Passes(self.device.xp, self.device.fft))

    def evaluation(self) -> dict[str, Any]:
        """One evaluation against the CPU: wanted at most 1e-5 of relative difference."""
        found = {}
        for name, modes, masked in (("study", 1, False), ("three modes, masked", 3, True)):
            scan = self.study if name == "study" else scan_of(8, 6, modes=modes, masked=masked)
            on_cpu, on_gpu = (Likelihood(scan.counts, scan.probe, device=each) for each in (CPU, self.device))
            truth = on_canvas(scan, on_cpu)
            for at, obj in (("flat", np.full_like(truth, 0.8)), ("near the truth", 0.95 * truth)):
                (expected, lines), (value, gradient) = on_cpu(obj), on_gpu(self.device.to_device(obj))
                found[f"{name}, {at}"] = {
                    "value": abs(value / expected - 1),
                    "gradient": relative(self.device.to_host(gradient), lines),
                }
        return found

    def search(self) -> dict[str, Any]:
        """Objectives that L-BFGS reaches from a flat object: SciPy's on the CPU, and the device's."""
        found = {}
        for device in (CPU, self.device):
            likelihood = Likelihood(self.study.counts, self.study.probe, device=device)
            flat = device.xp.full(likelihood.shape, 0.8, np.complex64)
            start = time.perf_counter()
            _, objective, iterations = minimize(likelihood.with_background(0.03), flat, 32.0, 10 if self.small else 200)
            seconds = time.perf_counter() - start
            found[device.name] = {"objective": objective, "iterations": iterations, "seconds": seconds}
        return found

    def speed(self) -> dict[str, Any]:
        """Patterns per second of one evaluation, value and gradient, and the share of the bandwidth that it takes.

        Bytes of a pattern of n² pixels, one mode: 84 n². Exit waves read 8 (probe) and write 8; each FFT reads 8 and
        writes 8; the comparison reads 8 + 4 and writes 8; the sum reads 16. The object and the sums stay in the cache.
        """
        found = {}
        for n, count in ((64, 20_000), (128, 5_000), (256, 1_250)):
            scan = repeated_scan(64 if self.small else count, n)
            start = time.perf_counter()
            likelihood = Likelihood(scan.counts, scan.probe, device=self.device)
            likelihood.illumination()
            self.synchronize()
            loaded = time.perf_counter() - start
            obj = self.device.to_device(on_canvas(scan, likelihood))
            seconds = self.seconds(lambda likelihood=likelihood, obj=obj: likelihood.evaluate(obj))
            rate = len(scan.counts) / seconds
            found[str(n)] = {
                "exposures": len(scan.counts),
                "seconds": seconds,
                "patterns_per_s": rate,
                "bytes_per_pattern": 84 * n * n,
                "fraction_of_copy_bandwidth": rate * 84 * n * n / (self.bandwidth * 1e9),
                "seconds_to_load": loaded,
                "parts_us_per_pattern": self._parts(likelihood, obj),
            }
            if not self.device.is_host and n == 64:
                plain = Likelihood(scan.counts, scan.probe, device=self._plain())
                plain_s = self.seconds(lambda plain=plain, obj=obj: plain.evaluate(obj))
                found["64"]["plain_patterns_per_s"] = len(scan.counts) / plain_s
            found |= self._memory()
        return found

    def _parts(self, likelihood: Likelihood, obj) -> dict[str, float]:
        """Return the time of the passes of one block [us a pattern]."""
        passes = self.device.passes
        if not hasattr(passes, "illuminate"):
            return {}
        part = next(likelihood.parts)
        (frames, probes), windows = likelihood.block(part), likelihood.windows(part)
        gradient, waves = self.device.xp.zeros(obj.shape, np.complex64), passes.illuminate(obj, probes, windows)
        tasks = {
            "illuminate": lambda: passes.illuminate(obj, probes, windows),
            "fft": lambda: self.device.fft.fft2(waves, overwrite_x=True),
            "compare": lambda: passes.compare(waves, frames, likelihood.expected),
            "collect": lambda: passes.collect(gradient, waves, probes, windows),
        }
        return {name: 1e6 * self.seconds(task, 0.2) / len(frames) for name, task in tasks.items()}

    def block_sizes(self) -> dict[str, Any]:
        """Patterns per second at 64 px with other sizes of the waves that are worked on at a time."""
        found, chosen, scan = {}, devices.WAVES_BYTES, repeated_scan(64 if self.small else 20_000, 64)
        try:
            for size in (8, 16, 32, 64, 128, 256, 512):
                devices.WAVES_BYTES = size << 20
                likelihood = Likelihood(scan.counts, scan.probe, device=self.device)
                obj = self.device.to_device(on_canvas(scan, likelihood))
                seconds = self.seconds(lambda likelihood=likelihood, obj=obj: likelihood.evaluate(obj), 0.2)
                found[f"{size} MiB"] = len(scan.counts) / seconds
        finally:
            devices.WAVES_BYTES = chosen
        return found

    def iteration(self) -> dict[str, Any]:
        """Time of the parts of an iteration of TV-MAP [ms]."""
        found = {}
        for name, scan in (("study", self.study), ("large", self.large)):
            likelihood = Likelihood(scan.counts, scan.probe, device=self.device)
            obj = self.device.to_device(on_canvas(scan, likelihood))
            gradient = likelihood(obj)[1]
            preconditioner = Preconditioner(likelihood.illumination(), self.device)
            pairs, slope = Pairs(12, 2 * obj.size, self.device), preconditioner.adjoint(gradient)
            for number in range(12):
                change = slope * (1 + 0.1 * number)
                change[number::12] *= 2
                pairs.add(slope * 0.5, change)
            tasks = {
                "likelihood": lambda likelihood=likelihood, obj=obj: likelihood.evaluate(obj),
                "last_object": lambda likelihood=likelihood, obj=obj: likelihood(obj),
                "total_variation": lambda obj=obj: self.device.passes.total_variation(obj, TV_SMOOTHING),
                "step": lambda preconditioner=preconditioner, slope=slope: preconditioner.step(slope),
                "adjoint": lambda preconditioner=preconditioner, slope=gradient: preconditioner.adjoint(slope),
                "pair": lambda pairs=pairs, slope=slope, change=change: pairs.add(slope, change),
                "direction": lambda pairs=pairs, slope=slope: pairs.direction(slope),
                "product": lambda slope=slope: float(self.device.xp.dot(slope, slope)),
            }
            found[name] = {part: 1e3 * self.seconds(task, 0.2) for part, task in tasks.items()}
        return found

    def _memory(self) -> dict[str, float]:
        if self.device.is_host:
            return {}
        pool = self.device.xp.get_default_memory_pool()
        return {"pool_GB": pool.total_bytes() / 1e9}

    def _reconstruct(self, scan: Scan, device: Device, options: tv.TVOptions) -> tuple[Any, dict[str, Any]]:
        """Run TV-MAP; return the reconstruction, and what it took."""
        calls, evaluate = [0], Likelihood.evaluate

        def count(likelihood, obj):
            calls[0] += 1
            return evaluate(likelihood, obj)

        tv.choose_device, Likelihood.evaluate = (lambda choice: device), count
        start = time.perf_counter()
        try:
            result = tv.reconstruct(scan.counts, scan.probe, options, seed=0)
        finally:
            Likelihood.evaluate = evaluate
        seconds = time.perf_counter() - start
        numbers = {"seconds": seconds, "evaluations": calls[0], "tv_weight": result.chosen["tv_weight"]}
        numbers["ms_per_evaluation"] = 1e3 * seconds / calls[0]
        numbers["stages_of_history"] = len(result.history)
        return result, numbers | {"error": self._error(scan, result)} | self._memory()

    def _error(self, scan: Scan, result) -> float:
        """Relative error against the truth where the illumination is above a third of its maximum, factor removed."""
        (top, left), (height, width) = result.origin_px, result.object.shape
        truth = scan.truth[top : top + height, left : left + width]
        lit = result.illumination > 0.3 * result.illumination.max()
        factor = np.vdot(result.object[lit], truth[lit]) / np.vdot(result.object[lit], result.object[lit])
        return relative(factor * result.object[lit], truth[lit])

    def tv_study(self) -> dict[str, Any]:
        """TV-MAP on the default study's dense scan; the second run is without the start-up of libraries."""
        found = {}
        for name in ("first", "second"):
            result, found[name] = self._reconstruct(self.study, self.device, self.options)
        self.objects["device"] = result
        return found

    def _compared(self, name: str, device: Device) -> dict[str, Any]:
        """Run TV-MAP on another device, and compare it with the checked one."""
        result, numbers = self._reconstruct(self.study, device, self.options)
        self.objects[name] = result
        if "device" in self.objects:
            other = self.objects["device"]
            lit = result.illumination > 0.3 * result.illumination.max()
            turn = np.vdot(other.object[lit], result.object[lit])
            numbers["difference"] = relative((other.object * turn / abs(turn))[lit], result.object[lit])
            numbers["difference_of_errors"] = abs(self._error(self.study, other) - numbers["error"])
        return numbers

    def tv_cpu(self) -> dict[str, Any]:
        """The same on the CPU: wanted at most 1e-3 of difference."""
        return self._compared("cpu", CPU)

    def tv_own_search(self) -> dict[str, Any]:
        """The same on the CPU with the search of GPUs."""
        return self._compared("own search", OWN_SEARCH)

    def tv_large(self) -> dict[str, Any]:
        """TV-MAP on 20,000 exposures, in tiles as on the CPU."""
        start = time.perf_counter()
        scan = self.large
        simulated = time.perf_counter() - start
        _, numbers = self._reconstruct(scan, self.device, self.options)
        return {"exposures": len(scan.counts), "seconds_to_simulate": simulated} | numbers

    def tv_large_whole(self) -> dict[str, Any]:
        """The same in one tile."""
        return self._reconstruct(self.large, self.device, replace(self.options, tile_px=1e6))[1]

    def stages(self) -> dict[str, Any]:
        """The unrolled steps without the network."""
        found = {}
        for name, scan in (("study", self.study), ("large", self.large)):
            schedule = Schedule(
                **STAGES,
                post_iterations=8,
                tv_weight=STEP_WEIGHT,
                transmittance=scan.counts.mean_transmittance(scan.probe),
                n_pixels=64,
                photons=DOSE,
            )
            if self.small:
                schedule = replace(schedule, minibatch_epochs=1, stages=2, final_iterations=3)
            start = time.perf_counter()
            likelihood = Likelihood(scan.counts, scan.probe, device=self.device)
            likelihood.illumination()
            self.synchronize()
            loaded = time.perf_counter() - start
            ends = schedule.before(likelihood)
            self.synchronize()
            stages = time.perf_counter() - start - loaded
            end = schedule.after(likelihood, ends[-1])
            self.synchronize()
            found[name] = {
                "seconds_to_load": loaded,
                "seconds_of_stages": stages,
                "seconds_of_final_steps": time.perf_counter() - start - loaded - stages,
                "deviance_per_pixel": 2 * likelihood(end)[0] / likelihood.n_values,
            }
        return found | self._memory()


SECTIONS = (
    "machine", "kernels", "evaluation", "search", "speed", "tv_study", "tv_cpu", "tv_large", "stages", "iteration",
    "block_sizes", "tv_large_whole", "tv_own_search",
)  # fmt: skip


def main() -> None:
    """Parse the command line, run the sections, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", choices=("gpu", "cpu"), default="gpu", help="what to check (default: %(default)s)")
    add("--small", action="store_true", help="small sizes, to try the program")
    add("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure (default: all)")
    add("--seconds", type=float, default=330, help="no section begins later than this [s] (default: %(default)s)")
    options = parser.parse_args()
    start, results = time.perf_counter(), {}
    try:
        checks = Checks(choose_device(options.device), small=options.small)
    except ValueError as error:
        parser.error(str(error))
    for name in options.sections:
        before = time.perf_counter()
        if before - start > options.seconds:
            results[name] = {"skipped": f"{before - start:.0f} s have passed"}
        else:
            try:
                results[name] = getattr(checks, name)()
            except Exception as error:  # one section must not lose the others
                results[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
            results[name]["section_s"] = time.perf_counter() - before
        print(json.dumps({name: results[name]}), flush=True)
        if folder := os.environ.get("OUT"):
            Path(folder, "gpu_check.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(json.dumps(results, indent=2), flush=True)
    sys.exit(any("error" in result and len(result) == 2 for result in results.values()))


if __name__ == "__main__":
    main()
