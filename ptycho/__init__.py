"""Ptychography: simulate, reconstruct and compare, with memory that does not grow with the scan.

Importing this package is free: TensorFlow, PyTorch and matplotlib are imported by the functions that need them.
"""

__version__ = "0.2.0"
