"""The one door to TensorFlow: quiet, on GPUs with memory that grows, without imports that nobody needs here."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType

from ptycho.workflow.job import captured_stderr


@cache
def tensorflow() -> ModuleType:
    """Import TensorFlow, once; what it prints on the way is shown only if that fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Keras imports these for wrappers and plots that nobody uses here: 1.4 CPU-seconds and 87 MB in every job.
    # TensorFlow's libraries look for GPUs, and complain where there are none.
    with captured_stderr(), _without("sklearn", "matplotlib"):
        module = importlib.import_module("tensorflow")
        grow_memory(module.config)
    return module


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Let modules seem not to be installed."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def grow_memory(config) -> list:
    """Let TensorFlow's memory grow on every GPU; without one do nothing.

    Which GPU a job has is the scheduler's business, and that trainings do not share one: they ask for a resource `gpu`
    in the profiles.

    Parameters
    ----------
    config : module
        `tensorflow.config`.

    Returns
    -------
    list
        The GPUs.
    """
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        with suppress(RuntimeError):  # it is in use already, as its user has set it up
            config.experimental.set_memory_growth(gpu, True)
    return gpus
