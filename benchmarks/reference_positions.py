"""What refining its positions gains the reference of a measured study, on simulated scans told wrong positions.

Two modes, half of the photons each for the reference and to judge it; errors of positions are independent.

    python benchmarks/reference_positions.py --rms 5 --defocus 0.2 --seed 2
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from ptycho.data.object_files import paste
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.inspection.position_trial import compare_positions
from ptycho.physics.displacement import affine_residual, rms_px
from ptycho.physics.forward import as_modes, predict_intensity
from ptycho.physics.probes import add_modes, scale_to, zone_plate_probe
from ptycho.physics.samples import simulate_object
from ptycho.reconstruction.reference import lsqml_options, reconstruct_reference, refine_reference
from ptycho.reconstruction.refinement import RefinementOptions
from ptycho.scoring.knowledge import known_by
from ptycho.scoring.metrics import error
from ptycho.scoring.registration import align
from ptycho.workflow.job import limit_threads

N, MARGIN_PX, SPACING = 64, 40, 0.11


def probe_of(defocus):
    """A zone plate's beam, its defocus a multiple of the right one."""
    return zone_plate_probe(
        N, pupil_px=0.2 * N, stop=0.3, defocus_px=0.4 * N * defocus, astigmatism_rad=0.6, coma_rad=0.4
    )


def scans(folder, side, rms, defocus, dose, seed):
    """Truth, true positions, the half scan of the reference and that of the study, both with wrong positions."""
    rng, count = np.random.default_rng(seed), side**2
    row, column = np.divmod(np.arange(count), side)
    y, x = (N / 2 + 8 + N * SPACING * axis + rng.uniform(-1, 1, count) for axis in (row, column))
    shape = int(y.max()) + N // 2 + 8, int(x.max()) + N // 2 + 8
    obj = simulate_object("dead_leaves", shape, rng)
    mean = predict_intensity(obj, scale_to(add_modes(probe_of(1), 2, fraction=0.15), dose), x, y)
    halves = [rng.poisson(mean / 2) for _ in range(2)]
    errors = rng.normal(0, rms / np.sqrt(2), (2, count))
    fields = {
        "ycoords": y + errors[0] + MARGIN_PX,
        "xcoords": x + errors[1] + MARGIN_PX,
        "probeGuess": scale_to(probe_of(1 + defocus), dose / 2).astype(np.complex64),
        "objectGuess": np.ones((shape[0] + 2 * MARGIN_PX, shape[1] + 2 * MARGIN_PX), np.complex64),
        "metadata": {"dose": dose / 2, "source": "simulated"},
    }
    for name, counts in zip(("reference", "study"), halves, strict=True):
        with ScanWriter(folder / f"{name}.npz", count, N, **fields) as writer:
            writer.write(np.sqrt(counts).astype(np.float32))
    return obj, np.stack([y, x]), open_scan(folder / "reference.npz"), open_scan(folder / "study.npz")


def error_of(result, known, obj, truth):
    """Error against the truth, where it was scanned."""
    shift = np.rint((np.stack([known.ycoords, known.xcoords]) - truth).mean(1)).astype(int)
    origin = int(result.origin_px[0] - shift[0]), int(result.origin_px[1] - shift[1])
    found, flux = (
        paste(array, origin, obj.shape, fill) for array, fill in ((result.object, 1), (result.illumination, 0))
    )
    box = tuple(slice(int(axis.min()) + 6, int(axis.max()) - 6) for axis in truth)
    return error(align(found, obj, flux, box)[0], obj[box])


def main():
    """Print misfit, error, residual position errors and CPU time with recorded and with refined positions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rms", type=float, default=2.0, help="error of the positions [px]")
    parser.add_argument("--defocus", type=float, default=0.2, help="relative error of the probe's defocus")
    parser.add_argument("--dose", type=int, default=200_000, help="photons per exposure, of both halves")
    parser.add_argument("--side", type=int, default=8, help="rows and columns of the scan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search", type=float, default=10.0, help="largest error that is searched for [px]")
    given = parser.parse_args()
    limit_threads(1)  # before PyTorch is imported
    lsqml = lsqml_options(epochs=60, batch_size=32)
    refinement = RefinementOptions(unknown=("probe", "positions"), search_px=given.search)
    with tempfile.TemporaryDirectory() as folder:
        size = (given.side, given.rms, given.defocus, given.dose, given.seed)
        obj, truth, scan, study = scans(Path(folder), *size)
        recorded = reconstruct_reference(scan, add_modes(as_modes(scan.probe), 2), lsqml, seed=0)
        refined, _ = refine_reference(scan, recorded.refined.probe, lsqml, refinement, seed=0)
        gain = compare_positions(recorded, refined, study)
        for name, result, misfit in (
            ("recorded", recorded, gain.misfit_recorded),
            ("refined", refined, gain.misfit_refined),
        ):
            known = known_by(result, scan)
            errors = np.stack([known.ycoords, known.xcoords]) - truth
            raw, affine = rms_px(errors - errors.mean(1, keepdims=True)), rms_px(affine_residual(errors, truth)[0])
            print(
                f"{name}: misfit {misfit:.4f}, error {error_of(result, known, obj, truth):.4f}, positions off by "
                f"{raw:.3f} px, {affine:.3f} px without their affine map, {result.cpu_s:.0f} CPU-seconds",
                flush=True,
            )


if __name__ == "__main__":
    main()
