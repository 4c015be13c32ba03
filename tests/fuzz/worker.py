"""What the server of the fuzz tests imports once: every reader, and what they import when they are called."""

import os
from functools import cache

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["PTYCHO_MAX_GB"] = "0.5"  # what a file may claim: well below the memory that a reader gets
from ptycho.workflow.job import limit_threads

limit_threads(1)  # before TensorFlow is imported

import matplotlib  # noqa: E402

matplotlib.use("agg")

import skimage.color  # noqa: E402, F401
import skimage.io  # noqa: E402, F401
import tifffile  # noqa: E402, F401

import ptycho.formats.conversion  # noqa: E402, F401
import ptycho.model.inference  # noqa: E402, F401
import ptycho.reporting.figures  # noqa: E402, F401
import ptycho.reporting.measured  # noqa: E402, F401
import ptycho.reporting.prices  # noqa: E402, F401
import tests.fuzz.faulty_readers  # noqa: E402, F401
import tests.fuzz.runner  # noqa: E402, F401
from ptycho.workflow import provenance  # noqa: E402

provenance.versions = cache(provenance.versions)  # a third of the time of a conversion
