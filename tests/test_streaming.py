"""Exposures that a GPU has no room for: what is kept, and how the others get there."""

import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import GPU
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.streaming import stream
from tests.strict_device import StrictDevice


class FakeEvent:
    """A point in a stream."""

    def __init__(self, stream):
        self.stream, self.length = stream, len(stream.work)

    def synchronize(self):
        self.stream.run(self.length)


class FakeStream:
    """Work that is put off until somebody waits for it, as late as a GPU may do it."""

    def __init__(self, non_blocking=False):
        self.work, self.done = [], 0

    def run(self, length):
        while self.done < length:
            self.done += 1
            self.work[self.done - 1]()

    def record(self):
        return FakeEvent(self)

    def wait_event(self, event):
        self.work.append(event.synchronize)

    def synchronize(self):
        self.run(len(self.work))


class FakeArray:
    """An array of the GPU."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, key):
        return FakeArray(self.values[key])

    def set(self, host, stream):
        stream.work.append(lambda: self.values.__setitem__(..., host))


class FakeDevice:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def computing(monkeypatch):
    """The stream that the pretended CuPy computes on."""
    current = FakeStream()
    cuda = SimpleNamespace(Device=FakeDevice, get_current_stream=lambda: current, Stream=FakeStream)
    arrays = {"empty": lambda shape, dtype: FakeArray(np.full(shape, np.nan, dtype)), "cuda": cuda}
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(**arrays))
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=np.empty))
    return current


def test_items_arrive_in_order_however_late_copies_and_kernels_run(computing):
    items, threads, results = np.arange(22, dtype=np.float32).reshape(11, 2), set(), []

    def read(part, out):
        threads.add(threading.get_ident())
        out[:] = items[part]

    for array in stream(read, [slice(start, min(start + 3, 11)) for start in range(0, 11, 3)], (2,)):
        computing.work.append(lambda array=array: results.append(array.values.copy()))
    computing.synchronize()
    np.testing.assert_array_equal(np.concatenate(results), items)
    assert threading.get_ident() not in threads


def test_an_error_of_the_reader_reaches_the_caller(computing):
    def read(part, out):
        if part.start:
            raise ValueError("exposures [3]: counts that are not finite numbers")
        out[:] = 0

    arrays = stream(read, [slice(0, 3), slice(3, 6), slice(6, 9)], (2,))
    next(arrays)
    with pytest.raises(ValueError, match=r"exposures \[3\]"):
        next(arrays)


def test_a_gpu_keeps_blocks_as_long_as_a_fraction_of_its_memory_is_left():
    free = {"driver": 900, "pool": 100}
    pool = SimpleNamespace(free_bytes=lambda: free["pool"])
    runtime = SimpleNamespace(memGetInfo=lambda: (free["driver"], 2000))
    xp = SimpleNamespace(get_default_memory_pool=lambda: pool, cuda=SimpleNamespace(runtime=runtime))
    device = GPU("a pretended GPU", xp, None, None, free_at_start=1000, memory_fraction=0.75)
    assert device.has_room(749)
    assert not device.has_room(750)
    free["driver"] = 300  # 400 are left
    assert device.has_room(149)
    assert not device.has_room(150)
    assert device.keeps(10**12, 1)
    assert not device.keeps(10**12, 0)


class SmallDevice(StrictDevice):
    """A pretended GPU with room for a few blocks, whose streamed arrays last until the next one."""

    def __init__(self, block_size, room):
        super().__init__(block_size)
        self.room, self.streamed = room, []

    def has_room(self, n_bytes):
        self.room -= 1
        return self.room >= 0

    def stream(self, read, parts, shape):
        self.streamed.append(len(parts))
        for array in super().stream(read, parts, shape):
            yield array
            array._values[:] = np.nan


@pytest.mark.parametrize("room", [0, 1, 2])
def test_streamed_exposures_give_the_same_bits_as_kept_ones(scan, room):
    counts, results = replace(Counts.of(scan, np.arange(len(scan))), block_size=8), []
    for device in (StrictDevice(16), SmallDevice(16, room)):
        likelihood = Likelihood(counts, scan.probe, device=device)
        value, gradient = likelihood(device.xp.full(likelihood.shape, 0.8, np.complex64))
        arrays = device.to_host(gradient), device.to_host(likelihood.illumination())
        results.append((value, likelihood.noise_level(), *arrays))
    assert device.streamed[0] == 4 - room  # 49 exposures: blocks of 16, 16, 16 and 1
    for kept, streamed in zip(*results, strict=True):
        np.testing.assert_array_equal(streamed, kept)
