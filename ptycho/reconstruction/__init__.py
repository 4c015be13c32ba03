"""Reconstruction of the object from photon counts, without networks."""
