r"""Seams: what the size of tiles and the width of their halo cost, in error and in time.

Takes a trained model of any method, a scan with its truth and a view of it. All exposures but the holdout ones are
reconstructed in one tile, and in tiles of every size with every halo. Prints JSON, one row per tiling: the number of
tiles; the redundancy, how often an exposure is reconstructed; the CPU time; the error against the truth; and the
difference from the reconstruction in one tile. Both are ‖A - B‖ / ‖B‖ on the illuminated rectangle, after one complex
factor, since with a known probe nothing else is unobservable. `fine_error` is the error after slow phase has been
removed as well: the phase of the product with the truth, smoothed by a Gaussian of `SLOW_PX`.

    cd results/default && python ../../benchmarks/seams.py --model dose_10000/dense/seed_0/pinn/model.keras \
        --scan data/dose_10000/seed_0/test.npz --view dose_10000/dense/seed_0/test.npz
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ptycho.data.object_files import Reconstruction, paste
from ptycho.data.scan import Scan, open_scan
from ptycho.data.tiles import TilingOptions, cut_view, redundancy
from ptycho.data.views import FIT, VALIDATION, View, open_view
from ptycho.loader import open_tiles
from ptycho.physics.forward import illumination
from ptycho.scoring.region import Region, scored_region
from ptycho.workflow import job

SLOW_PX = 12
"""Width of the Gaussian that slow phase is found with [px]."""
ONE_TILE = TilingOptions(tile_px=np.inf, halo_px=0.0)


def relative_difference(image, reference) -> float:
    """Return ‖A - B‖ / ‖B‖ after one complex factor on A."""
    factor = np.vdot(image, reference) / np.vdot(image, image)
    return float(np.linalg.norm(factor * image - reference) / np.linalg.norm(reference))


def without_slow_phase(image, truth):
    """Remove the slowly varying phase of an image against the truth."""
    product = truth * image.conj()
    smooth = gaussian_filter(product.real, SLOW_PX) + 1j * gaussian_filter(product.imag, SLOW_PX)
    return image * smooth / np.abs(smooth)


def on_region(part: Reconstruction, scan: Scan, region: Region):
    """Return the part of an object that is on the scored rectangle."""
    return paste(part.object, part.origin_px, scan.object.shape)[region.box]


def reconstruct(model, scan: Scan, view: View, tiling: TilingOptions) -> tuple[Reconstruction, dict[str, Any]]:
    """Reconstruct a view in tiles; return the object, and what is known of the tiling."""
    from ptycho.model.inference import reconstruct_in_chunks

    tiles = cut_view(scan, view.of_role(FIT, VALIDATION), tiling)
    result = reconstruct_in_chunks(model, open_tiles(scan, tiles), tiles, len(tiles), 16)
    return result, {"tiles": len(tiles), "redundancy": redundancy(tiles), "cpu_s": result.cpu_s}


def scores_of(image, truth, reference) -> dict[str, float]:
    """Compare an image with the truth, and with the reconstruction in one tile."""
    return {
        "error": relative_difference(image, truth),
        "fine_error": relative_difference(without_slow_phase(image, truth), truth),
        "difference": relative_difference(image, reference),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Reconstruct in every tiling."""
    job.limit_threads(1)
    from ptycho.model.inference import load_model

    model, scan, view = load_model(options.model), open_scan(options.scan), open_view(options.view)
    exposures = view.of_role(FIT, VALIDATION)
    lit = illumination(scan.probe, scan.xcoords[exposures], scan.ycoords[exposures], scan.object.shape)
    region = scored_region([lit])
    truth = scan.object[:][region.box]
    reconstruct(model, scan, view, ONE_TILE)  # the first call of a network takes longer
    whole, facts = reconstruct(model, scan, view, ONE_TILE)
    reference = on_region(whole, scan, region)
    extent = max(float(np.ptp(axis[exposures])) for axis in (scan.xcoords, scan.ycoords))
    rows = [{"tile_px": None, "halo_px": None, **facts, **scores_of(reference, truth, reference)}]
    for tile_px in (size for size in options.tile_px if size < extent):
        for halo_px in options.halo_px:
            part, facts = reconstruct(model, scan, view, TilingOptions(tile_px=tile_px, halo_px=halo_px))
            scores = scores_of(on_region(part, scan, region), truth, reference)
            rows.append({"tile_px": tile_px, "halo_px": halo_px, **facts, **scores})
    return {"model": str(options.model), "exposures": len(exposures), "extent_px": extent, "tilings": rows}


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model.keras of a trained method")
    add("--scan", type=Path, required=True, help="scan with its truth")
    add("--view", type=Path, required=True, help="view of that scan")
    add("--tile-px", type=float, nargs="+", default=[48, 96, 128, 256], help="sizes of tiles (default: %(default)s)")
    add("--halo-px", type=float, nargs="+", default=[0, 16, 32, 64], help="widths of halos (default: %(default)s)")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
