"""What a single pattern tells of its patch: error reduction without any network, probe known, object bounded.

The scan of `pinn_quality.py`, pattern by pattern from a flat object: how well the patterns are explained, how far the
patches are from the truth, and what becomes of them when they are stitched with the phases they have, with the mean
phase of each removed, and with the true phase of each. The last two are done to the true patches as well: what
is the best that methods can reach which do not know how the phases of patches are to each other. Prints JSON.

    python benchmarks/single_patterns.py --probe zone_plate
    python benchmarks/single_patterns.py --probe confined
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from pinn_quality import OBJECTS, PROBES, judge, make_lines
from tqdm import trange

from ptycho.data.canvas import Canvas
from ptycho.physics.forward import cut_patches, diffract, shift_probe, split_position, undiffract

AMPLITUDE_MAX = 1.2
"""Largest transmittance that is allowed, the networks' own."""
MOMENTUM = 0.9


class Patterns:
    """A scan of single patterns with its true patches."""

    def __init__(self, scan):
        self.scan, n = scan, scan.n_pixels
        self.amplitude = scan.diffraction[:]
        rest = [split_position(axis)[1] for axis in (scan.ycoords, scan.xcoords)]
        self.probe = shift_probe(scan.probe.reshape(n, n), *rest)
        self.light = np.abs(self.probe) ** 2
        self.truth = cut_patches(scan.object[:], scan.xcoords, scan.ycoords, n)
        detected = np.sum(self.amplitude**2, dtype=np.float64)
        self.transmission = np.sqrt(detected / self.light.sum())

    def reduce(self, iterations: int):
        """Error reduction (Fienup, Appl. Opt. 21, 2758, 1982) from a flat object, with momentum and a bound."""
        slow = last = np.full(self.probe.shape, self.transmission, complex)
        gain = self.probe.conj() / (self.light + 0.05 * self.light.max())
        for number in trange(iterations, unit="iteration", mininterval=5):
            waves = diffract(self.probe * slow)
            waves *= self.amplitude / np.maximum(np.abs(waves), 1e-12 * self.amplitude.max())
            new = slow + gain * (undiffract(waves) - self.probe * slow)
            new *= np.minimum(1, AMPLITUDE_MAX / np.maximum(np.abs(new), 1e-12))
            slow, last = new + MOMENTUM * (new - last) * bool(number), new
        return last

    def stitched(self, patches) -> dict:
        """Score the mean of patches, weighted by the light."""
        places = self.scan.xcoords, self.scan.ycoords
        canvas = Canvas.around(*places, self.scan.n_pixels)
        canvas.add(patches, self.light, *places)
        return judge(canvas, self.scan)

    def told(self, patches) -> dict:
        """Compare patches with the truth, one by one and stitched in three ways."""

        def gauge(others):
            overlap = np.sum(self.light * others.conj() * patches, axis=(1, 2), keepdims=True)
            return patches * overlap.conj() / np.abs(overlap), overlap

        right, overlap = gauge(self.truth)
        power = np.sum(self.light * np.abs(patches) ** 2, axis=(1, 2), keepdims=True)
        scaled = right * np.abs(overlap) / power
        wrong = np.sum(self.light * np.abs(scaled - self.truth) ** 2, axis=(1, 2))
        misfit = np.abs(diffract(self.probe * patches)) - self.amplitude
        return {
            "misfit": float(np.linalg.norm(misfit) / np.linalg.norm(self.amplitude)),
            "error_of_a_patch": float(
                np.median(np.sqrt(wrong / np.sum(self.light * np.abs(self.truth) ** 2, axis=(1, 2))))
            ),
            "stitched": {
                "phases as they are": self.stitched(patches),
                "mean phases removed": self.stitched(gauge(np.ones_like(patches))[0]),
                "true phases": self.stitched(right),
            },
        }


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--object", default="two_contrasts", choices=OBJECTS, help="as there (two_contrasts)")
    parser.add_argument("--probe", default="zone_plate", choices=PROBES, help="as there (zone_plate)")
    parser.add_argument("--rows", type=int, default=12, help="of 30 exposures (12)")
    parser.add_argument("--iterations", type=int, default=300, help="of error reduction (300)")
    parser.add_argument("--seed", type=int, default=101, help="of the object (101)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scan = make_lines(Path(folder, "scan.npz"), options.seed, options.rows, options.object, options.probe)
        patterns = Patterns(scan)
        light = np.abs(scan.probe) ** 2
        found = {
            "settings": vars(options),
            "lit_pixels": int(np.sum(light > 1e-6 * light.max())),
            "measured_numbers": scan.n_pixels**2,
            "the true patches": patterns.told(patterns.truth),
            "error reduction": patterns.told(patterns.reduce(options.iterations)),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
