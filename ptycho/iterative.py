"""The iterative reference: pty-chi's least-squares maximum likelihood (LSQML), called in one place.

Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108 (2018). Importing this module is free: PyTorch and pty-chi
are imported by the functions that need them, and their global state is put back afterwards.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.physics import as_modes, illumination, predict_intensity, undiffract, window_start

MARGIN_PX = 2
"""Frame around the windows: with less, pty-chi pads the object at every step."""

_torchvision_operators = None
