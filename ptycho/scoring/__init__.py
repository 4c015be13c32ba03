"""How good a reconstruction is: registration to the truth, metrics, Fourier ring correlation."""
