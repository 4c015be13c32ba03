"""What light does: illumination, sample, diffraction, photon statistics. NumPy only."""
