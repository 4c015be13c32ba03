"""The only importer of TensorFlow: without its messages, with GPU memory that grows, without unneeded imports."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType
from typing import Any

from ptycho.workflow.job import captured_stderr


@cache
def tensorflow() -> ModuleType:
    """Import TensorFlow once; its messages are shown only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Keras imports these for wrappers and plots that are not used here: 1.4 CPU-seconds and 87 MB in every job.
    # TensorFlow's libraries look for GPUs, and complain on machines without one.
    with captured_stderr(), _hidden("sklearn", "matplotlib"):
        module = importlib.import_module("tensorflow")
        grow_memory(module.config)
    return module


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Make modules that are not imported yet appear not to be installed."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark of a module that must not be imported
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def grow_memory(config: Any) -> list[Any]:
    """Let TensorFlow allocate the memory of every GPU as it needs it; on a machine without a GPU do nothing.

    The scheduler assigns GPUs to jobs: the rules of trainings request one unit of the resource `gpu`.

    Parameters
    ----------
    config : module
        `tensorflow.config`.

    Returns
    -------
    list of tf.config.PhysicalDevice
        The GPUs.
    """
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        with suppress(RuntimeError):  # already initialized: the caller's settings stay
            config.experimental.set_memory_growth(gpu, True)
    return gpus
