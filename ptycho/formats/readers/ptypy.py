"""Scans of PtyPy: prepared data, `.ptyd`, with probe and object of a reconstruction, `.ptyr`."""

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.inputs import Inputs, KeyedFile, number, numbers
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import HC_EV_M, Concatenated, Format, Geometry, RawFrames, RawObject, RawScan
from ptycho.workflow.files import ContractError

BLOCK = 64
"""Frames whose weights are read at a time."""


def recognizes(inputs: Inputs) -> bool:
    """Whether there are chunks, or the content of a reconstruction."""
    return inputs.find("chunks") is not None or inputs.find("content/probe") is not None


def read(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open the chunks of prepared data, and take over probe and object of a reconstruction.

    PtyPy has turned the frames as its parameter `orientation` says before it wrote them.

    Raises
    ------
    ContractError
        If there are no frames, or an array has another shape.
    """
    data, reconstruction = inputs.find("chunks"), inputs.find("content/probe")
    if data is None:
        raise ContractError(f"{inputs.name}: probe and object, no frames; wanted the .ptyd file with them, too")
    chunks = _chunks(data)
    frames = RawFrames(Concatenated([data.frames(f"{chunk}/data") for chunk in chunks]))
    rows_columns = np.concatenate([numbers(data, f"{chunk}/positions").reshape(-1, 2) for chunk in chunks])
    energy, psize = number(data, "meta/energy", "info/energy"), number(data, "meta/psize", "info/psize")
    probe, obj, said = (None, None, ()) if reconstruction is None else _reconstruction(reconstruction)
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        corner=_is_corner(data, frames.shape[1:]),
        positions=rows_columns[:, ::-1].astype(np.float64),
        unit="m",
        probe=probe,
        probe_key="content/probe",
        object=obj,
        object_key="content/obj",
        geometry=Geometry(
            wavelength_m=HC_EV_M / (1000 * energy) if energy else None,
            distance_m=number(data, "meta/distance", "info/distance") or None,
            detector_pixel_m=psize or None,
        ),
        bad_pixels=_bad_pixels(data, chunks, frames.shape[1:]),
        conventions=(
            f"frames: {len(chunks)} chunks, turned by PtyPy before they were written",
            "positions: (y, x) [m] of the probe on the object, y along rows",
            *said,
        ),
    )


def _chunks(file: KeyedFile) -> list[str]:
    """Return the groups of chunks that have frames, in the order of their numbers."""
    names = sorted(file.names("chunks"), key=lambda name: (len(name), name))
    chunks = [f"chunks/{name}" for name in names if f"chunks/{name}/data" in file]
    if not chunks:
        raise ContractError(f"{file.path}: no frames in its chunks {', '.join(names)}")
    if any(f"{chunk}/positions" not in file for chunk in chunks):
        raise ContractError(f"{file.path}: chunks without positions; wanted 'chunks/<n>/positions' (y, x) [m]")
    return chunks


def _is_corner(file: KeyedFile, shape: tuple[int, ...]) -> bool:
    """Tell whether the zero frequency is in the corner; refuse a file that has it neither there nor in the middle."""
    key = next((key for key in ("meta/center", "info/center") if key in file), None)
    center = np.ravel(file.array(key)) if key is not None else np.zeros(0)
    if center.dtype.kind not in "fiu" or center.size != 2 or not np.isfinite(center).all():
        return False
    if np.abs(center).max() < 0.5:
        return True
    if np.abs(center - np.array(shape) // 2).max() > 1:
        raise ContractError(
            f"{file.path}: '{key}' is {center.tolist()} in frames of {shape}; wanted the middle: write the file anew "
            "with a smaller shape, which PtyPy crops around the center"
        )
    return False


def _bad_pixels(file: KeyedFile, chunks: list[str], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return where a weight is zero in any frame, (H, W); None without weights."""
    bad, weighted = np.zeros(shape, bool), False
    for key in ("common/weight2d", "info/weight2d", "meta/weight2d"):
        if key in file and file.shape(key) == shape:
            bad, weighted = bad | (numbers(file, key, "buif") == 0), True
    for chunk in chunks:
        key = f"{chunk}/weights"
        if key not in file or file.shape(key)[-2:] != shape:
            continue
        weighted = True
        if len(file.shape(key)) == 2:
            bad |= numbers(file, key, "buif") == 0
            continue
        weights = file.frames(key)
        for start in range(0, len(weights), BLOCK):
            bad |= (weights[start : start + BLOCK] == 0).any(axis=0)
    return bad if weighted else None


def _reconstruction(
    file: KeyedFile,
) -> tuple[NDArray[np.complexfloating] | None, RawObject | None, tuple[str, ...]]:
    """Return probe, object, and what is taken over, of a reconstruction."""
    probes, objects = ([f"content/{of}/{name}" for name in file.names(f"content/{of}")] for of in ("probe", "obj"))
    probe = numbers(file, f"{probes[0]}/data", "uifc") if probes else None
    said = [f"probe: '{probes[0]}' of {PurePath(file.path).name}"] if probes else []
    if len(probes) > 1 or len(objects) > 1:
        said.append(f"left out: {', '.join((*probes[1:], *objects[1:]))}")
    obj = None
    if objects and f"{objects[0]}/data" in file:
        origin, pixel = (
            np.ravel(numbers(file, f"{objects[0]}/{name}")) if f"{objects[0]}/{name}" in file else np.zeros(0)
            for name in ("_origin", "_psize")
        )
        array = numbers(file, f"{objects[0]}/data", "uifc")
        known = origin.size == 2 and pixel.size > 0
        obj = RawObject(array=array, origin=(float(origin[1]), float(origin[0])) if known else None)
        said.append(f"object: '{objects[0]}', its first pixel at the origin that PtyPy has stored")
    return probe, obj, tuple(said)


FORMAT = Format(name="ptypy", title="PtyPy", recognizes=recognizes, read=read)
