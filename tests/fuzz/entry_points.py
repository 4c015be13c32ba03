"""Everything that reads a file: what writes the intact files, and what reads them as users and jobs do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import originals as own
from tests.fuzz import originals_foreign as foreign
from tests.fuzz.readers import (
    convert,
    export,
    images_of,
    judge,
    judge_view,
    provenance,
    read_card,
    read_chunks,
    read_comparison,
    read_config,
    read_cost,
    read_groups,
    read_images,
    read_model,
    read_numbers,
    read_object,
    read_refusal,
    read_region,
    read_results,
    read_sample,
    read_scan,
    read_source_object,
    read_state,
    read_tables,
    read_tiles,
    read_verdict,
    read_view,
    show,
)

INPUTS = 300
"""Damaged inputs of an entry point in every run of the tests."""


@dataclass(frozen=True)
class EntryPoint:
    """A reader and the files that it is given."""

    write: Callable[[Path], Any]
    """Writes intact files into a folder; returns those that are damaged, one at a time."""
    read: Callable[[Path], Any]
    """Reads the files of that folder; returns what it makes of them, or None."""
    beside: tuple[Callable[[Path], Any], ...] = ()
    """Write further files, which stay intact."""
    has_checksums: bool = False
    """Whether a file tells damaged bytes: what is read in spite of them must then be what was written."""
    names_file: bool = True
    """Whether a refusal has to name the file."""
    one_line: bool = True
    """Whether a refusal has to be one line."""
    cpu_s: float = 10.0
    """CPU time of one input after which it counts as a hang [s]."""


def both_chunks(folder):
    return own.write_chunk(folder, 1), own.write_chunk(folder, 2)


OURS = {
    "scan": EntryPoint(own.write_scan, read_scan, has_checksums=True),
    "sample": EntryPoint(own.write_sample, read_sample, has_checksums=True),
    "view": EntryPoint(own.write_view, read_view, has_checksums=True),
    "tiles": EntryPoint(own.write_tiles, read_tiles, has_checksums=True),
    "object": EntryPoint(own.write_object, read_object, has_checksums=True),
    "chunks": EntryPoint(both_chunks, read_chunks, has_checksums=True),
    "groups": EntryPoint(own.write_groups, read_groups),
    "region": EntryPoint(own.write_json("region.json", {"y0": 1, "y1": 9, "x0": 2, "x1": 8}), read_region),
    "verdict": EntryPoint(own.write_json("check.json", own.verdict()), read_verdict),
    "refusal": EntryPoint(own.write_json("check.json", own.verdict()), read_refusal),
    "card": EntryPoint(own.write_model, read_card, has_checksums=True),
    "model": EntryPoint(own.write_model, read_model, has_checksums=True),
    "backup": EntryPoint(own.write_state, read_state, has_checksums=True),
    "config": EntryPoint(own.write_config, read_config, names_file=False, one_line=False),
    "cost": EntryPoint(own.write_cost, read_cost),
    "tables": EntryPoint(own.write_tables, read_tables),
    "numbers": EntryPoint(own.write_numbers, read_numbers),
    "comparison": EntryPoint(own.write_comparison, read_comparison, has_checksums=True),
    "images": EntryPoint(own.write_images, read_images),
    "source object": EntryPoint(own.write_sample, read_source_object),
}
"""Readers of this project's files."""
COMMANDS = {
    "plan": EntryPoint(own.write_results, read_results),
    "provenance of json": EntryPoint(own.write_json("a.json", {"provenance": own.RECORD}), provenance("a.json")),
    "provenance of npz": EntryPoint(own.write_object, provenance("object.npz")),
    "provenance of png": EntryPoint(own.write_png, provenance("figure.png")),
    "provenance of keras": EntryPoint(own.write_model, provenance("model.keras")),
    "images of an object": EntryPoint(own.write_object, images_of("object.npz")),
    "images of a scan": EntryPoint(own.write_scan, images_of("scan.npz")),
    "images of a comparison": EntryPoint(own.write_comparison, images_of("comparison.npz")),
    "view of an object": EntryPoint(own.write_object, show("object.npz")),
    "view of a comparison": EntryPoint(own.write_comparison, show("comparison.npz")),
    "judge our object": EntryPoint(own.write_object, judge("object.npz"), (own.write_scan,)),
    "judge an NPZ": EntryPoint(own.write_plain_object, judge("plain.npz"), (own.write_scan,)),
    "judge a product": EntryPoint(foreign.scan_product, judge("product.h5"), (own.write_scan,)),
    "judge a view": EntryPoint(own.write_view, judge_view, (own.write_scan,)),
    "export an object": EntryPoint(own.write_object, export("object.npz", ".h5"), (own.write_scan,)),
    "export with a scan": EntryPoint(own.write_scan, export("object.npz", ".cxi"), (own.write_object,)),
    "export a sample": EntryPoint(own.write_sample, export("sample.npz", ".tif")),
}
"""Commands of `ptycho`, or what they read files with where the rest takes long."""
ADDED = ("--mask", "mask.tif", "--mask-marks", "bad", "--background", "background.npy")
ADDED += ("--exposure-scale", "flux.txt", "--probe", "probe.npz")
CONVERSIONS = {
    "npz": EntryPoint(foreign.plain_npz, convert("raw.npz")),
    "compressed npz": EntryPoint(foreign.compressed_npz, convert("raw.npz")),
    "our scan": EntryPoint(own.write_scan, convert("scan.npz", options=("--quantity", "amplitude"))),
    "hdf5": EntryPoint(foreign.plain_hdf5, convert("raw.h5")),
    "cxi": EntryPoint(foreign.cxi, convert("raw.h5")),
    "ptypy": EntryPoint(foreign.ptypy, convert("raw.h5", "probe.h5")),
    "hxn": EntryPoint(foreign.hxn, convert("raw.h5", options=("--estimate-probe", 0))),
    "ptychoshelves": EntryPoint(foreign.ptychoshelves, convert("raw.h5")),
    "ptylab": EntryPoint(foreign.ptylab, convert("raw.h5")),
    "ptychodus": EntryPoint(foreign.ptychodus_hdf5, convert("raw.h5", "product.h5")),
    "ptychodus npz": EntryPoint(foreign.ptychodus_npz, convert("raw.npz")),
    "paired": EntryPoint(foreign.paired, convert("raw_dp.h5", "raw_para.h5", options=("--variant", "unchanged"))),
    "tike": EntryPoint(foreign.tike, convert("raw.npz")),
    "ptychopinn": EntryPoint(foreign.ptychopinn, convert("raw.npz", options=("--quantity", "counts"))),
    "tiff": EntryPoint(
        foreign.tiff,
        convert("a.tif", "b.tif", "positions.csv", options=("--quantity", "counts", "--estimate-probe", 0)),
    ),
    "additions": EntryPoint(foreign.additions, convert("raw.npz", options=ADDED), (foreign.plain_npz,)),
}
"""`ptycho convert` of every format, and of mask, background, flux and probe in files of their own."""
ENTRY_POINTS = OURS | COMMANDS | {f"convert {name}": entry for name, entry in CONVERSIONS.items()}
"""All of them by name."""
