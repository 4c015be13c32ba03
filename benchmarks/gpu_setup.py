"""What the sections of `benchmarks/gpu_check.py` share: devices, scans, settings, clocks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from gpu_scans import Scan, scan_of

from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.passes import Passes
from ptycho.reconstruction.tv import TVOptions

# The default study's settings (config/defaults.yaml, config/config.yaml): these programs read no YAML.
TV = {"lambda_max": 1024, "lambda_min": 0.125, "iterations": 40, "final_iterations": 100, "fit_fraction": 0.8}
SMALL_TV = {"lambda_max": 32, "lambda_min": 4, "iterations": 5, "final_iterations": 8}


@dataclass
class Setup:
    """What is checked, and how large."""

    device: Device
    """What is compared with the CPU."""
    small: bool
    """Sizes for a try on a CPU."""

    @cached_property
    def options(self) -> TVOptions:
        """TV-MAP on the device."""
        options = TVOptions(**TV, tile_px=512, device="cpu" if self.device.is_host else "gpu")
        return replace(options, **SMALL_TV) if self.small else options

    @cached_property
    def study(self) -> Scan:
        """The scan of the default study's test split."""
        return scan_of(*((6, 5) if self.small else (22, 14)))

    @cached_property
    def large(self) -> Scan:
        """20,000 exposures."""
        return scan_of(*((12, 10) if self.small else (160, 125)))

    @cached_property
    def plain(self) -> Device:
        """The device with the plain lines in place of its kernels."""
        return replace(self.device, passes=Passes(self.device.xp, self.device.fft))

    @cached_property
    def bandwidth(self) -> float:
        """Bytes that a copy reads and writes [byte/s]."""
        array = self.device.xp.ones((1 << 20) if self.small else (1 << 28), np.float32)
        other = self.device.xp.empty_like(array)
        return 2 * array.nbytes / self.seconds(lambda: self.device.xp.copyto(other, array))

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

    def once(self, task: Callable[[], Any]) -> tuple[Any, float]:
        """Return the result of a task and its time [s]."""
        self.synchronize()
        start, result = time.perf_counter(), task()
        self.synchronize()
        return result, time.perf_counter() - start

    def pool_gb(self) -> float | None:
        """GPU memory that CuPy holds [GB]."""
        if self.device.is_host:
            return None
        return self.device.xp.get_default_memory_pool().total_bytes() / 1e9


def relative(array, expected) -> float:
    """Norm of a difference in units of the norm of what is expected."""
    return float(np.linalg.norm(array - expected) / np.linalg.norm(expected))
