"""Physics of the experiment: illumination, sample, diffraction, photon statistics. NumPy only."""
