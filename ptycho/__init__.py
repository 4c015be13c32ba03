"""Ptychography: simulate, reconstruct and compare, in memory that does not grow with the scan.

Importing this package loads neither TensorFlow, PyTorch nor Matplotlib; the functions that need them import them.
"""

__version__ = "0.2.0"
