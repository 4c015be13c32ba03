"""Chunks of a reconstruction: which tiles each takes, and the merge of their canvases if none is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ptycho.data.canvas import merge, parts_of, read_metadata
from ptycho.data.npz import Npz
from ptycho.data.object_files import Reconstruction, Refined, check_outcome, check_probe
from ptycho.workflow.archives import check_archive
from ptycho.workflow.damage import check_fields, is_of
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.provenance import file_digest, versions

if TYPE_CHECKING:  # a merge job without a history does without pandas: 40 MB
    import pandas as pd

_Chunk: TypeAlias = tuple[str, dict[str, Any]]
"""Path and metadata of a chunk's file."""


def chunk_bounds(n_tiles: int, index: int, count: int) -> tuple[int, int]:
    """Return the first tile of chunk `index` (from 0) of `count`, and its end; sizes differ by at most one."""
    return n_tiles * index // count, n_tiles * (index + 1) // count


def run_of(model: StrPath, tiling: StrPath, n_tiles: int, name: str = "model") -> dict[str, Any]:
    """Return what identifies the chunks of one reconstruction: digests of model and of its tiles, their number.

    Parameters
    ----------
    model : path
        NPZ or .keras that every tile is reconstructed with.
    tiling : path
        The tiles, see `ptycho.data.tiles.save_tiles`.
    n_tiles : int
        Their number.
    name : str
        What messages call the model: of TV-MAP it is its start.

    Raises
    ------
    ContractError
        If model or tiles are damaged: their digests are none of theirs.
    """
    for path in (model, tiling):
        check_archive(path)
    return {name: file_digest(model), "tiling": file_digest(tiling), "tiles": n_tiles}


def merge_chunks(
    paths: Iterable[StrPath], run: Mapping[str, Any] | None = None, folder: StrPath | None = None
) -> Reconstruction:
    """Merge the chunk files of one run; what the method has chosen and refined is that of the first chunk.

    They are the same in all: they belong to the model, not to a tile. The history has the steps of one chunk after the
    other; methods without `steps` in their metadata have none.

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
    chunks = sorted(((str(path), _read_chunk_metadata(path)) for path in paths), key=_extent)
    n_tiles = _check_run(chunks, run or {})
    openers = {path: parts_of(path) for path, _ in chunks}
    ordered = _check_coverage(chunks, n_tiles)
    parts = [open_part for path in ordered for open_part in openers[path]]
    try:
        canvas = merge(parts, folder)
    except ContractError as error:  # of all of them together
        raise ContractError(f"{chunks[0][0]} and the chunks beside it: {error}") from None
    seconds = [metadata.get("cpu_s") for _, metadata in chunks]
    known = [value for value in seconds if value is not None]
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        history=_history_of(chunks),
        refined=_read_refined(chunks[0][0]),
        cpu_s=sum(known) if len(known) == len(seconds) else None,
        chosen=chunks[0][1].get("chosen", {}),
    )


def _extent(chunk: _Chunk) -> tuple[int, int, str]:
    """Return a chunk's first tile, the one after its last, and its file."""
    path, metadata = chunk
    start, stop = metadata["tiles"]
    return start, stop, path


def _history_of(chunks: Sequence[_Chunk]) -> "pd.DataFrame | None":
    """Return the steps of all chunks, in the order of their tiles; None if they have none."""
    steps = [step for _, metadata in chunks for step in metadata.get("steps", [])]
    if not steps:
        return None
    import pandas as pd

    return pd.DataFrame(steps)


def _read_refined(path: StrPath) -> Refined | None:
    """Read the probe that was used in place of the scan's, if there is one in a chunk."""
    with Npz(path) as file:
        if "probe" not in file:
            return None
        probe = file.array("probe")
    check_probe(path, probe)
    return Refined(probe=probe)


def _read_chunk_metadata(path: StrPath) -> dict[str, Any]:
    metadata = read_metadata(path)
    if "run" not in metadata or "tiles" not in metadata:
        raise ContractError(
            f"{path}: no 'run' and 'tiles' in its metadata; wanted a chunk of a reconstruction{_version_hint(metadata)}"
        )
    where = f"{path}: 'metadata'"
    check_fields(metadata, where, run=dict, tiles=list)
    check_fields(metadata["run"], f"{where}: 'run'", tiles=int)
    if len(metadata["tiles"]) != 2 or not all(is_of(number, int) for number in metadata["tiles"]):
        raise ContractError(
            f"{where}: 'tiles' is {metadata['tiles']}; wanted the first tile, and the one after the last"
        )
    check_outcome(metadata, where)
    return metadata


def _version_hint(metadata: Mapping[str, Any]) -> str:
    """Say which version wrote a chunk, and what to do, if it is another one than this; '' if it is this or unknown."""
    this = versions("ptycho").get("ptycho")
    version = metadata
    for key in ("provenance", "versions", "ptycho"):
        version = version.get(key, this) if isinstance(version, Mapping) else this
    return "" if version == this else f"; written by ptycho {version}: delete it and run again"


def _check_run(chunks: Sequence[_Chunk], run: Mapping[str, Any]) -> int:
    """Check that all chunks are of one run, the wanted one; return its number of tiles."""
    first, metadata = chunks[0]
    wanted = {key: (value, first) for key, value in metadata["run"].items()}
    wanted |= {key: (value, "the wanted run") for key, value in run.items()}
    for path, metadata in chunks:
        for key, (value, source) in wanted.items():
            if metadata["run"].get(key) != value:
                name = "number of tiles" if key == "tiles" else key
                hint = _version_hint(metadata) or ": delete it and run again"
                raise ContractError(
                    f"{path}: a chunk of another {name} ({metadata['run'].get(key)}; {source} is of {value}){hint}"
                )
    return wanted["tiles"][0]


def _check_coverage(chunks: Iterable[_Chunk], n_tiles: int) -> list[str]:
    """Check that every tile is in exactly one of ordered chunks; return the files of those that are not empty."""
    expected, before = 0, "no chunk before it"
    ordered = [(start, stop, path) for start, stop, path in map(_extent, chunks) if start != stop]
    for start, stop, path in ordered:
        if start < expected:
            raise ContractError(f"{path}: holds tiles {start} to {stop}, some of which {before} holds too")
        if start > expected:
            raise ContractError(
                f"tiles {expected} to {start} are in no chunk: one is missing between {before} and {path}"
            )
        expected, before = stop, path
    if expected != n_tiles:
        raise ContractError(f"tiles {expected} to {n_tiles} are in no chunk: one is missing after {before}")
    return [path for *_, path in ordered]
