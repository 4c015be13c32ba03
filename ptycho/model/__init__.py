"""Networks and their training: the only part of the package that imports Keras. Importing it builds nothing."""

import os
import sys
from contextlib import contextmanager

from ptycho.log import hushed
from ptycho.model.devices import grow_memory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextmanager
def _without(*names: str):
    """Let modules seem not to be installed."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Keras imports these for wrappers and plots that nobody uses here: 1.4 CPU-seconds and 87 MB in every job.
# TensorFlow's libraries look for GPUs, and complain where there are none.
with hushed(), _without("sklearn", "matplotlib"):
    import tensorflow

    grow_memory(tensorflow.config)
