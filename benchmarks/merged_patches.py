"""What is lost in patches of single patterns, and what in their merge: the control of the claim on overlap.

Takes the results of a study whose networks reconstruct one pattern at a time (`inference.tile_px: 0`). Prints, as JSON
for each condition,

- `patch_error`: median over patches of their relative complex error, weighted by the illumination, after one complex
  factor per patch was removed;
- SSIM of the merged object: as the study `merged` it, with the best `factors` (from the truth) in place of matching
  phases, and of `true_patches` with random phases, merged as the study does.

    python benchmarks/merged_patches.py results/claims-overlap-single-zone-plate
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ptycho.data.canvas import Canvas, merge, parts_of
from ptycho.data.object_files import paste
from ptycho.data.scan import Scan, open_scan
from ptycho.data.views import View, open_view
from ptycho.scoring.metrics import score
from ptycho.scoring.placement import MARGIN_PX, illumination_on
from ptycho.scoring.region import Region
from ptycho.scoring.registration import align

METRICS = ("ssim_amplitude", "ssim_phase", "error")


def merge_all(parts: Iterable[Canvas]) -> Canvas:
    """Merge canvases as a study does: the phase of each is matched to those before it."""
    return merge([lambda part=part: part for part in parts])


def add_all(patches: Iterable, parts: list[Canvas]) -> Canvas:
    """Add patches, (n, n) each, with weights and places of some canvases; their phases stay."""
    n = parts[0].weight.shape[0]
    y, x = np.transpose([part.origin_px for part in parts]).astype(float) + n // 2
    whole = Canvas.around(x, y, n)
    whole.add(np.stack(list(patches)), np.stack([part.weight for part in parts]), x, y)
    return whole


def score_merged(merged: Canvas, scan: Scan, view: View, region: Region) -> dict:
    """Score a merged object as a study does."""
    wide = region.widened(MARGIN_PX, scan.object.shape)
    obj = paste(merged.mean(), merged.origin_px, scan.object.shape)
    aligned, _ = align(obj[wide.box], scan.object[wide.box], illumination_on(wide, scan, view), region.inside(wide))
    values = score(aligned, scan.object[region.box])
    return {name: round(values[name], 3) for name in METRICS}


def true_patch(part: Canvas, scan: Scan):
    """Return the true object in a patch's window."""
    (top, left), (height, width) = part.origin_px, part.weight.shape
    return scan.object[top : top + height, left : left + width]


def examine(root: Path, condition: Path) -> dict:
    """Compute the numbers of one condition, dose_…/view/seed_….

    Parameters
    ----------
    root : Path
        Results of the study.
    condition : Path
        Folder of the condition.
    """
    dose, _, seed = condition.relative_to(root).parts
    scan, view = open_scan(root / "data" / dose / seed / "test.npz"), open_view(condition / "test.npz")
    region, rng = Region.load(root / "region/test.json"), np.random.default_rng(0)
    files = [part() for part in parts_of(condition / "test/pinn/chunks/1of1.npz")]
    patches = [Canvas(part.total[...], part.weight[...], part.origin_px) for part in files]
    errors, matched, true = [], [], []
    for part in patches:
        truth, lit = true_patch(part, scan), part.weight > 0
        patch = np.divide(part.total, part.weight, out=np.zeros_like(part.total), where=lit)
        factor = np.vdot(part.total, truth) / np.sum(part.weight * np.abs(patch) ** 2)
        distance, power = (np.sum(part.weight * np.abs(image) ** 2) for image in (factor * patch - truth, truth))
        errors.append(np.sqrt(distance / power))
        matched.append(factor * patch)
        phase = np.exp(2j * np.pi * rng.random())
        true.append(Canvas(phase * part.weight * truth, part.weight, part.origin_px))
    return {
        "patches": len(patches),
        "patch_error": round(float(np.median(errors)), 3),
        "merged": score_merged(merge_all(patches), scan, view, region),
        "factors": score_merged(add_all(matched, patches), scan, view, region),
        "true_patches": score_merged(merge_all(true), scan, view, region),
    }


def main() -> None:
    """Parse the command line, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the study's results")
    root = parser.parse_args().results
    conditions = sorted(path.parents[3] for path in root.glob("dose_*/*/seed_*/test/pinn/chunks/1of1.npz"))
    print(json.dumps({str(path.relative_to(root)): examine(root, path) for path in conditions}, indent=2))


if __name__ == "__main__":
    main()
