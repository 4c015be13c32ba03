"""Where a reconstruction is computed: NumPy and SciPy on the CPU, or CuPy on a GPU, behind one small interface.

The lines of the likelihood and of what minimizes it take namespace, FFTs and passes from a `Device`, so that they run
on either. Arrays stay where they are until `to_device` or `to_host` moves them.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ptycho.reconstruction.cpu_passes import CpuPasses
from ptycho.reconstruction.passes import Array, Passes
from ptycho.reconstruction.streaming import Read, stream
from ptycho.workflow.job import thread_limit
from ptycho.workflow.scheduler import visible_gpus

CHOICES = ("auto", "cpu", "gpu")
"""Names of devices; `auto` is a GPU, if there is one and CuPy is installed."""
MEMORY_FRACTION = 0.8
"""Fraction of the GPU memory that is free at the start which may be in use when exposures are kept there."""
WAVES_BYTES = 1 << 28
"""Size of the waves that a GPU works on at a time [byte]: enough to keep it busy."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Device:
    """The CPU; subclasses are other devices."""

    name: str
    """What the log calls it."""
    xp: Any
    """Array namespace: `numpy`, or one with the same functions."""
    fft: Any
    """FFTs that keep single precision: `scipy.fft`, or a module with the same functions."""
    passes: Passes
    """Passes of the likelihood over a block."""

    @property
    def is_host(self) -> bool:
        """Whether the device's arrays are NumPy's."""
        return self.xp is np

    def to_device(self, array: Any) -> Array:
        """Return an array of the host as one of the device."""
        return array

    def to_host(self, array: Array) -> NDArray[Any]:
        """Return an array of the device as one of NumPy."""
        return array

    def block_size(self, size: int, wave_bytes: int) -> int:
        """Return how many exposures are computed at once.

        Parameters
        ----------
        size : int
            As many as the counts are read in.
        wave_bytes : int
            Size of an exposure's waves [byte].
        """
        return size

    def keeps(self, n_bytes: int, cache_bytes: int) -> bool:
        """Whether counts and probes of `n_bytes` are kept; the host keeps fewer than `cache_bytes`."""
        return n_bytes < cache_bytes

    def has_room(self, n_bytes: int) -> bool:
        """Whether one more block of `n_bytes` may be kept."""
        return True

    def stream(self, read: Read, parts: Sequence[slice], shape: tuple[int, ...]) -> Iterator[Array]:
        """Yield items that are not kept, see `ptycho.reconstruction.streaming.stream`; an array lasts until the next.

        Parameters
        ----------
        read : callable
            Takes (m,) consecutive items, fills the (m, …) float32 array of the host with them.
        parts : sequence of slice
            Consecutive items that are computed at once.
        shape : tuple of int
            Shape of an item.
        """
        for part in parts:
            items = np.empty((part.stop - part.start, *shape), np.float32)
            read(part, items)
            yield self.to_device(items)


CPU = Device("the CPU", np, fft, CpuPasses())
"""NumPy and SciPy, one thread."""


@dataclass(frozen=True, eq=False)
class GPU(Device):
    """CuPy on the current NVIDIA GPU."""

    free_at_start: int
    """Memory that was free when the GPU was first used [byte]."""
    memory_fraction: float = MEMORY_FRACTION
    """Fraction of it that may be in use when exposures are kept there."""

    def to_device(self, array: Any) -> Array:
        """Return an array of the host as one of the device."""
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> NDArray[Any]:
        """Return an array of the device as one of NumPy."""
        return self.xp.asnumpy(array)

    def block_size(self, size: int, wave_bytes: int) -> int:
        """Return how many exposures are computed at once: a multiple of `size`, so that those blocks are parts."""
        return size * max(1, WAVES_BYTES // (size * wave_bytes))

    def keeps(self, n_bytes: int, cache_bytes: int) -> bool:
        """Blocks are kept as long as there is room, unless the host is to keep none."""
        return cache_bytes > 0

    def has_room(self, n_bytes: int) -> bool:
        """Whether one more block leaves some of the memory that was free at the start."""
        return self.free_bytes() - n_bytes > (1 - self.memory_fraction) * self.free_at_start

    def stream(self, read: Read, parts: Sequence[slice], shape: tuple[int, ...]) -> Iterator[Array]:
        """Yield items that are not kept; the next ones are read and copied in the meantime."""
        return stream(read, parts, shape)

    def free_bytes(self) -> int:
        """Memory that can still be allocated [byte]."""
        pool = self.xp.get_default_memory_pool()
        return int(self.xp.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())


@cache
def cpu(threads: int = 1) -> Device:
    """Return the CPU; `threads` of its cores work on one evaluation of a likelihood. Numba is loaded, if there is any.

    Results do not depend on the number of threads.
    """
    device = CPU if threads == 1 else replace(CPU, name=f"{threads} threads of the CPU", passes=CpuPasses(threads))
    device.passes.start()
    return device


@cache
def gpu() -> GPU:
    """Return the GPU that CuPy takes by default.

    Raises
    ------
    ImportError
        If CuPy is not installed, or cannot load CUDA's libraries.
    RuntimeError
        If it finds no GPU or no driver.
    """
    import cupy
    import cupyx.scipy.fft

    from ptycho.reconstruction.kernels import CudaPasses

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    name = properties["name"].decode()
    cupy.fft.config.get_plan_cache().set_size(256)  # one for each size of block and canvas
    free = int(cupy.cuda.runtime.memGetInfo()[0])
    return GPU(f"the GPU {name}", cupy, cupyx.scipy.fft, CudaPasses(cupy, cupyx.scipy.fft), free)


def wants_gpu(choice: str) -> bool:
    """Whether a config's name of a device means a GPU: `gpu` does, and `auto` if there is one.

    A GPU is there if it has a device file, `/dev/nvidia0`, `/dev/nvidia1`, …, which `CUDA_VISIBLE_DEVICES` does not
    hide. No library is loaded.

    Raises
    ------
    ValueError
        If the name is none of `CHOICES`.
    """
    if choice not in CHOICES:
        raise ValueError(f"device: {choice!r}; wanted one of {', '.join(CHOICES)}")
    return choice == "gpu" or (choice == "auto" and visible_gpus() > 0)


@cache
def choose_device(choice: str = "auto", memory_fraction: float = MEMORY_FRACTION) -> Device:
    """Return the device of a config's name.

    Parameters
    ----------
    choice : {"auto", "cpu", "gpu"}
        With `auto`, the GPU is taken if there is one, see `wants_gpu`, and CuPy works; a GPU without CuPy is worth a
        warning. The CPU has the threads of the job, see `ptycho.workflow.job.limit_threads`.
    memory_fraction : float
        Fraction of a GPU's free memory that may be in use when exposures are kept there; the others are streamed.

    Raises
    ------
    ValueError
        If the name is another, or the GPU is asked for and cannot be used.
    """
    if not wants_gpu(choice):
        return cpu(thread_limit())
    try:
        return replace(gpu(), memory_fraction=memory_fraction)
    except (ImportError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        wanted = "wanted CuPy and its driver: pip install 'ptycho[gpu13]' (CUDA 13) or 'ptycho[gpu12]' (CUDA 12)"
    if choice == "gpu":
        raise ValueError(f"device: gpu cannot be used ({reason}); {wanted}")
    _logger.warning("There is a GPU, but the CPU is used, many times slower (%s); %s", reason, wanted)
    return cpu(thread_limit())
