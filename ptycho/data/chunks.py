"""Chunks of a reconstruction: which groups each takes, and canvases of one run merged if none is missing."""

import numpy as np

from ptycho.data.canvas import merge, parts_of, read_metadata
from ptycho.data.object_files import Reconstruction
from ptycho.workflow.files import ContractError
from ptycho.workflow.provenance import file_digest


def chunk_bounds(n_groups: int, index: int, count: int) -> tuple[int, int]:
    """First group and end of chunk `index` (from 0) of `count`: sizes differ by one at most, and may be zero."""
    return n_groups * index // count, n_groups * (index + 1) // count


def run_of(model, view, n_groups: int) -> dict:
    """What identifies the chunks of one reconstruction: sha256 of the model's and the view's file, number of groups."""
    return {"model": file_digest(model), "view": file_digest(view), "groups": n_groups}


def merge_chunks(paths, run: dict | None = None, folder=None) -> Reconstruction:
    """Merge the chunk files of one run.

    Parameters
    ----------
    paths : list of Path
        In any order.
    run : dict, optional
        What made them, or part of it, as `Canvas.save` was told; beyond that they have to agree.
    folder : Path, optional
        Where the sum lives in files; without, it is in memory.

    Raises
    ------
    ContractError
        If a chunk is missing, damaged, there twice, or of another run; the message names the file.
    """
    metadata = [(str(path), read_metadata(path)) for path in paths]
    loads = {str(path): parts_of(path) for path in paths}
    first, run = metadata[0][0], run or {}
    wanted = {key: (value, first) for key, value in metadata[0][1]["run"].items()}
    wanted |= {key: (value, "what is wanted") for key, value in run.items()}
    for path, found in metadata:
        for key, (value, source) in wanted.items():
            if found["run"].get(key) != value:
                raise ContractError(
                    f"{path}: a chunk of another {key} ({found['run'].get(key)}; {source} is of {value}): "
                    "delete it and run again"
                )
    count = wanted["groups"][0]
    expected, before = 0, "no chunk before it"
    ordered = sorted((*found["groups"], path) for path, found in metadata if np.diff(found["groups"]))
    for start, stop, path in ordered:
        if start < expected:
            raise ContractError(f"{path}: holds groups {start} to {stop}, some of which {before} holds too")
        if start > expected:
            raise ContractError(
                f"groups {expected} to {start} are in no chunk: one is missing between {before} and {path}"
            )
        expected, before = stop, path
    if expected != count:
        raise ContractError(f"groups {expected} to {count} are in no chunk: one is missing after {before}")
    parts = [load for *_, path in ordered for load in loads[path]]
    canvas = merge(parts, folder, synchronized="parts" in metadata[0][1])
    seconds = [chunk.get("cpu_s") for _, chunk in metadata]
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        cpu_s=None if None in seconds else sum(seconds),
    )
