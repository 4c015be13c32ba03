"""How much a single pattern determines of its patch: error reduction with a known probe and a bounded object.

Takes the scan of `pinn_quality.py` and reconstructs every pattern by itself from a flat object, without a network.
Reports how well the patterns are explained, how far the patches are from the truth, and the scores of the patches
stitched with their own phases, with the mean phase of each removed, and with each turned to the true phase. The true
patches are stitched in the same three ways: the upper bound of methods that do not know the relative phases of
patches. Prints JSON.

    python benchmarks/single_patterns.py --probe zone_plate
    python benchmarks/single_patterns.py --probe confined
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from pinn_quality import OBJECTS, PROBES, score_canvas, simulate_lines
from tqdm import trange

from ptycho.data.canvas import Canvas
from ptycho.data.scan import Scan
from ptycho.physics.forward import (
    cut_patches,
    diffract,
    inverse_diffract,
    mean_transmittance,
    shift_probe,
    split_position,
)
from ptycho.workflow import job

AMPLITUDE_MAX = 1.2
"""Largest transmittance allowed, as for the networks."""
MOMENTUM = 0.9
REGULARIZATION = 0.05
"""Regularization of the division by the probe, as a fraction of its peak intensity."""
MIN_LIT_FRACTION = 1e-6
"""A pixel counts as lit from this fraction of the peak intensity on."""


class Patterns:
    """A scan of single patterns with its true patches.

    Attributes
    ----------
    amplitude : (M, n, n) float32
        Measured, sqrt(counts).
    probe, intensity : (M, n, n) arrays
        The probe with each exposure's sub-pixel shift, and |probe|².
    truth : (M, n, n) complex64
        True patches.
    """

    def __init__(self, scan: Scan):
        self.scan, n = scan, scan.n_pixels
        self.amplitude = scan.diffraction[:]
        shifts = [split_position(axis)[1] for axis in (scan.ycoords, scan.xcoords)]
        self.probe = shift_probe(scan.probe.reshape(n, n), *shifts)
        self.intensity = np.abs(self.probe) ** 2
        self.truth = cut_patches(scan.object[:], scan.xcoords, scan.ycoords, n)

    def reduce_error(self, iterations: int):
        """Run error reduction (Fienup, Appl. Opt. 21, 2758, 1982) from a flat object, with momentum and a bound."""
        photons = np.sum(self.amplitude**2, dtype=np.float64)
        transmittance = mean_transmittance(photons, len(self.scan), self.scan.probe)
        extrapolated = last = np.full(self.probe.shape, transmittance, complex)
        gain = self.probe.conj() / (self.intensity + REGULARIZATION * self.intensity.max())
        for number in trange(iterations, unit="iteration", mininterval=5):
            waves = diffract(self.probe * extrapolated)
            waves *= self.amplitude / np.maximum(np.abs(waves), 1e-12 * self.amplitude.max())
            patches = extrapolated + gain * (inverse_diffract(waves) - self.probe * extrapolated)
            patches *= np.minimum(1, AMPLITUDE_MAX / np.maximum(np.abs(patches), 1e-12))
            extrapolated, last = patches + MOMENTUM * (patches - last) * bool(number), patches
        return last

    def stitch(self, patches) -> dict:
        """Score the mean of patches, weighted by the probe's intensity."""
        positions = self.scan.xcoords, self.scan.ycoords
        canvas = Canvas.around(*positions, self.scan.n_pixels)
        canvas.add(patches, self.intensity, *positions)
        return score_canvas(canvas, self.scan)

    def overlap(self, patches, others):
        """Inner product of patches with others, weighted by the probe's intensity, (M, 1, 1) complex."""
        return np.sum(self.intensity * others.conj() * patches, axis=(1, 2), keepdims=True)

    def synchronize(self, patches, others):
        """Turn the phase of each patch to that of another."""
        overlap = self.overlap(patches, others)
        return patches * overlap.conj() / np.abs(overlap)

    def patch_errors(self, patches):
        """Relative error of each patch after one complex factor, (M,) float64."""
        scaled = patches * self.overlap(patches, self.truth).conj() / self.overlap(patches, patches).real
        difference, truth = scaled - self.truth, self.truth
        return np.sqrt(self.overlap(difference, difference).real / self.overlap(truth, truth).real).ravel()

    def evaluate(self, patches) -> dict:
        """Compare patches with the truth, one by one and stitched in three ways."""
        misfit = np.abs(diffract(self.probe * patches)) - self.amplitude
        return {
            "misfit": float(np.linalg.norm(misfit) / np.linalg.norm(self.amplitude)),
            "median_patch_error": float(np.median(self.patch_errors(patches))),
            "stitched": {
                "own phases": self.stitch(patches),
                "mean phases removed": self.stitch(self.synchronize(patches, np.ones_like(patches))),
                "true phases": self.stitch(self.synchronize(patches, self.truth)),
            },
        }


def run(options: argparse.Namespace) -> dict:
    """Simulate, reconstruct, score."""
    job.limit_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        scan = simulate_lines(Path(folder, "scan.npz"), options.seed, options.rows, options.object, options.probe)
        patterns, intensity = Patterns(scan), np.abs(scan.probe) ** 2
        return {
            "settings": vars(options),
            "lit_pixels": int(np.sum(intensity > MIN_LIT_FRACTION * intensity.max())),
            "measured_pixels": scan.n_pixels**2,
            "true patches": patterns.evaluate(patterns.truth),
            "error reduction": patterns.evaluate(patterns.reduce_error(options.iterations)),
        }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--object",
        default="two_contrasts",
        choices=OBJECTS,
        help="whether phase and amplitude are independent (default: %(default)s)",
    )
    parser.add_argument("--probe", default="zone_plate", choices=PROBES, help="illumination (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=12, help="rows of 30 exposures (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=300, help="steps of error reduction (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=101, help="seed of object and noise (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
