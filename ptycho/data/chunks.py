"""Chunks of a reconstruction: which groups each takes, and the merge of their canvases if none is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ptycho.data.canvas import merge, parts_of, read_metadata
from ptycho.data.object_files import Reconstruction
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.provenance import file_digest

_Chunk: TypeAlias = tuple[str, dict[str, Any]]
"""Path and metadata of a chunk's file."""


def chunk_bounds(n_groups: int, index: int, count: int) -> tuple[int, int]:
    """Return the first group of chunk `index` (from 0) of `count`, and its end; sizes differ by at most one."""
    return n_groups * index // count, n_groups * (index + 1) // count


def run_of(model: StrPath, tiles: StrPath, n_groups: int) -> dict[str, Any]:
    """Return what identifies the chunks of one reconstruction: digests of model and tiles, number of groups."""
    return {"model": file_digest(model), "tiles": file_digest(tiles), "groups": n_groups}


def merge_chunks(
    paths: Iterable[StrPath], run: Mapping[str, Any] | None = None, folder: StrPath | None = None
) -> Reconstruction:
    """Merge the chunk files of one run; what the method has chosen is that of the first chunk.

    Parameters
    ----------
    paths : iterable of path
        In any order.
    run : mapping, optional
        Wanted values of the chunks' `run`, see `run_of`, or some of them; the other values must agree.
    folder : path, optional
        Where the sum lives in files; default: in memory.

    Raises
    ------
    ContractError
        If a chunk is missing, damaged, duplicate, or of another run; the message names the file.
    """
    chunks = [(str(path), _read_chunk_metadata(path)) for path in paths]
    openers = {path: parts_of(path) for path, _ in chunks}
    n_groups = _check_run(chunks, run or {})
    ordered = _check_coverage(chunks, n_groups)
    parts = [open_part for path in ordered for open_part in openers[path]]
    canvas = merge(parts, folder)
    seconds = [metadata.get("cpu_s") for _, metadata in chunks]
    known = [value for value in seconds if value is not None]
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        cpu_s=sum(known) if len(known) == len(seconds) else None,
        chosen=chunks[0][1].get("chosen", {}),
    )


def _read_chunk_metadata(path: StrPath) -> dict[str, Any]:
    metadata = read_metadata(path)
    if "run" not in metadata or "groups" not in metadata:
        raise ContractError(f"{path}: no 'run' and 'groups' in its metadata; wanted a chunk of a reconstruction")
    return metadata


def _check_run(chunks: Sequence[_Chunk], run: Mapping[str, Any]) -> int:
    """Check that all chunks are of one run, the wanted one; return its number of groups."""
    first, metadata = chunks[0]
    wanted = {key: (value, first) for key, value in metadata["run"].items()}
    wanted |= {key: (value, "the wanted run") for key, value in run.items()}
    for path, metadata in chunks:
        for key, (value, source) in wanted.items():
            if metadata["run"].get(key) != value:
                version = metadata.get("provenance", {}).get("versions", {}).get("ptycho", "")
                hint = ", written by ptycho 0.1" if version.startswith("0.1.") else ""
                raise ContractError(
                    f"{path}: a chunk of another {key} ({metadata['run'].get(key)}; {source} is of {value}){hint}: "
                    "delete it and run again"
                )
    return wanted["groups"][0]


def _check_coverage(chunks: Iterable[_Chunk], n_groups: int) -> list[str]:
    """Check that every group is in exactly one chunk; return the files of those that are not empty, in order."""
    expected, before = 0, "no chunk before it"
    bounds = sorted((*metadata["groups"], path) for path, metadata in chunks)
    ordered = [(start, stop, path) for start, stop, path in bounds if start != stop]
    for start, stop, path in ordered:
        if start < expected:
            raise ContractError(f"{path}: holds groups {start} to {stop}, some of which {before} holds too")
        if start > expected:
            raise ContractError(
                f"groups {expected} to {start} are in no chunk: one is missing between {before} and {path}"
            )
        expected, before = stop, path
    if expected != n_groups:
        raise ContractError(f"groups {expected} to {n_groups} are in no chunk: one is missing after {before}")
    return [path for *_, path in ordered]
