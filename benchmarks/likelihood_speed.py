"""What likelihood and gradient cost beside their two FFTs, and what a second thread brings.

In every turn one process evaluates the likelihood of a masked scan (bad pixels, background, changing flux) and takes
the two FFTs of as many waves alone. The FFTs are SciPy's, in place and in pieces as the evaluation takes them, its
fastest way here; for comparison also those of whole blocks, each into a new array. The likelihood in everything that
predicts the counts (`JointLikelihood`) takes its turns, too, with positions that change from one evaluation to the
next, as in a refinement. One thread, CPU time of the thread.

Then one thread and two evaluate in turns, by the clock, and two likelihoods with a thread each evaluate at the same
time: this needs two idle cores, and what two such cores give differs from machine to machine.

Prints JSON: microseconds per pattern and ratios, medians over the turns.

    python benchmarks/likelihood_speed.py
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from conditions import print_json, settings_of
from gpu_scans import Scan, scan_of
from scipy import fft

from ptycho.physics.forward import blocks
from ptycho.reconstruction.cpu_passes import PIECE_PIXELS
from ptycho.reconstruction.devices import Device, cpu
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.parameters import NAMES
from ptycho.workflow import job

COLUMNS = 16
WANTED: dict[str, tuple[str, ...]] = {
    "object": ("object",),
    "object, shifts": ("object", "shifts"),
    "everything": NAMES,
}
"""Gradients that a joint evaluation computes."""


def bare_ffts(waves: Any, size: int, *, in_place: bool) -> None:
    """Take the FFT of waves (M, modes, N, N), `size` exposures at a time, and take them back."""
    for part in blocks(len(waves), size):
        there = fft.fft2(waves[part], overwrite_x=in_place)
        fft.ifft2(there, norm="forward" if in_place else None, overwrite_x=in_place)


def seconds_of(task: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time a task."""
    start = clock()
    task()
    return clock() - start


def at_once(pool: ThreadPoolExecutor, first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    """Return a task that does two at the same time, one of them in a pool's thread."""

    def both() -> None:
        other = pool.submit(second)
        first()
        other.result()

    return both


def in_turns(
    tasks: dict[str, Callable[[], object]], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Time tasks in turns; the first turn is left out."""
    rows = [{name: seconds_of(task, clock) for name, task in tasks.items()} for _ in range(turns + 1)]
    return {name: np.array([row[name] for row in rows[1:]]) for name in tasks}


def joint_evaluations(scan: Scan) -> dict[str, Callable[[], object]]:
    """Return evaluations of the joint likelihood, at other shifts each time."""
    likelihood, rng = JointLikelihood(scan.counts, scan.probe, margin_px=0), np.random.default_rng(1)
    start = likelihood.parameters(scan.on_canvas(likelihood) * np.float32(0.9))

    def evaluation(wanted: tuple[str, ...]) -> Callable[[], object]:
        return lambda: likelihood.evaluate(replace(start, shifts=rng.uniform(-0.3, 0.3, start.shifts.shape)), wanted)

    return {name: evaluation(wanted) for name, wanted in WANTED.items()}


def measure(n: int, modes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure patterns of n × n px."""
    scan = scan_of(COLUMNS, -(-options.exposures // COLUMNS), n, modes, masked=True)

    def evaluation(device: Device) -> Callable[[], object]:
        likelihood = Likelihood(scan.counts, scan.probe, cache_bytes=1 << 40, device=device)
        obj = scan.on_canvas(likelihood) * np.float32(0.9)
        return lambda: likelihood.evaluate(obj)

    count, piece = len(scan.counts), max(1, PIECE_PIXELS // (modes * n * n))
    waves = np.random.default_rng(0).normal(size=(count, modes, n, n)).astype(np.complex64)
    scratch = waves.copy()

    def pieces() -> None:
        bare_ffts(scratch, piece, in_place=True)

    tasks = {
        "fill": lambda: np.copyto(scratch, waves),  # the FFTs in place grow what they take
        "ffts": pieces,
        "evaluation": evaluation(cpu(1)),
        "ffts_of_blocks": lambda: bare_ffts(waves, scan.counts.block_size, in_place=False),
        **joint_evaluations(scan),
    }
    found = in_turns(tasks, options.turns, time.thread_time)
    threads = {"one": evaluation(cpu(1)), "two": evaluation(cpu(2))}
    spent = in_turns(threads, options.turns, time.process_time)
    with ThreadPoolExecutor(1) as pool:
        wall = in_turns(threads | {"apart": at_once(pool, threads["one"], evaluation(cpu(1)))}, options.turns)
    numbers = {
        "evaluation / ffts": np.median(found["evaluation"] / found["ffts"]),
        "evaluation / ffts_of_blocks": np.median(found["evaluation"] / found["ffts_of_blocks"]),
        **{f"joint, {name} / evaluation": np.median(found[name] / found["evaluation"]) for name in WANTED},
        "two threads: speed": np.median(wall["one"] / wall["two"]),
        "two likelihoods at once: speed": np.median(2 * wall["one"] / wall["apart"]),
        "two threads: cpu time": np.median(spent["two"] / spent["one"]),
    }
    times = {name: round(float(np.median(found[name])) / count * 1e6, 1) for name in list(tasks)[1:]}
    ratios = {name: round(float(number), 3) for name, number in numbers.items()}
    return {"n_pixels": n, "modes": modes, "exposures": count, "us_per_pattern": times, **ratios}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[64, 128], help="sides of the patterns [px] (default: %(default)s)")
    add("--modes", type=int, nargs="+", default=[1, 3], help="modes of the probe (default: %(default)s)")
    add("--exposures", type=int, default=128, help="exposures at least (default: %(default)s)")
    add("--turns", type=int, default=15, help="default: %(default)s")
    options = parser.parse_args()
    job.limit_threads(1)
    rows = [measure(n, modes, options) for n in options.sizes for modes in options.modes]
    print_json({"settings": settings_of(options), "rows": rows})


if __name__ == "__main__":
    main()
