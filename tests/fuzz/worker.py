"""What the server of the fuzz tests imports once: every reader, and what they import when they are called."""

import os
from functools import cache

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["PTYCHO_MAX_GB"] = "0.5"  # what a file may claim: well below the memory that a reader gets
from ptycho.workflow.job import limit_threads

limit_threads(1)  # before TensorFlow is imported

import matplotlib.figure  # noqa: E402

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
from ptycho.reporting import figures  # noqa: E402
from ptycho.workflow import config, provenance  # noqa: E402

read_file, read_defaults = config.read_file, cache(config.read_file)

# What takes most of the time, and reads no damaged file.
provenance.versions = cache(provenance.versions)
config.load_schema = cache(config.load_schema)
config.read_file = lambda path: read_defaults(path) if path == config.DEFAULTS else read_file(path)
figures.DPI = 20
matplotlib.figure.Figure.set_layout_engine = lambda *arguments, **options: None
