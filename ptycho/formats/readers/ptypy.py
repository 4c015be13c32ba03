"""Scans of PtyPy: prepared data, `.ptyd`, with probe and object of a reconstruction, `.ptyr`."""

import math
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.geometry import read_length, wavelength_of
from ptycho.formats.inputs import Inputs, KeyedFile, numbers
from ptycho.formats.layouts import read_file_mask, read_vectors
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Concatenated, Format, Geometry, RawFrames, RawObject, RawScan
from ptycho.workflow.files import ContractError


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
    rows_columns = np.concatenate([_positions(data, chunk) for chunk in chunks])
    bad_pixels, mask_said = _bad_pixels(data, chunks, frames.shape[1:], options)
    probe, obj, said = (None, None, ()) if reconstruction is None else _reconstruction(reconstruction)
    return RawScan(
        name=inputs.name,
        frames=frames,
        quantity="counts",
        corner=_is_corner(data, frames.shape[1:]),
        positions=rows_columns[:, ::-1],
        unit="m",
        probe=probe,
        probe_key="content/probe",
        object=obj,
        object_key="content/obj",
        geometry=Geometry(
            wavelength_m=_wavelength(data, options),
            distance_m=_length(data, options, "distance_m", "distance"),
            detector_pixel_m=_length(data, options, "detector_pixel_m", "psize"),
        ),
        bad_pixels=bad_pixels,
        keys={"frames": "chunks/*/data", "positions": "chunks/*/positions", "bad_pixels": "chunks/*/weights"},
        conventions=(
            f"frames: {len(chunks)} chunks, turned by PtyPy before they were written",
            "positions: (y, x) [m] of the probe on the object, y along rows",
            *mask_said,
            *said,
        ),
    )


def _chunks(file: KeyedFile) -> list[str]:
    """Return the groups of chunks that have frames, in the order of their numbers."""
    names = sorted(file.names("chunks"), key=lambda name: (len(name), name))
    chunks = [f"chunks/{name}" for name in names if f"chunks/{name}/data" in file]
    if not chunks:
        raise ContractError(f"{file.path}: no frames in its chunks {', '.join(names)}")
    without = [chunk for chunk in chunks if f"{chunk}/positions" not in file]
    if without:
        raise ContractError(f"{file.path}: no '{without[0]}/positions'; wanted (y, x) [m] in every chunk")
    return chunks


def _positions(file: KeyedFile, chunk: str) -> NDArray[np.float64]:
    """Return (y, x) of every frame of a chunk, (m, 2) [m]."""
    key, frames = f"{chunk}/positions", f"{chunk}/data"
    count = next(iter(file.shape(frames)), 0)
    positions = read_vectors(file, key, count)
    if len(positions) != count:
        raise ContractError(
            f"{file.path}: '{frames}' has {count} frames but '{key}' {len(positions)} positions; wanted as many"
        )
    return positions


def _length(file: KeyedFile, options: ConversionOptions, name: str, key: str) -> float | None:
    """Return a length [m], or the energy in place of a wavelength [keV]; None if it is not known, or 0."""
    known = next((f"{group}/{key}" for group in ("meta", "info") if f"{group}/{key}" in file), None)
    if known is None or not np.any(file.array(known)):
        return None
    return read_length(file, options, name, known)


def _wavelength(file: KeyedFile, options: ConversionOptions) -> float | None:
    energy = _length(file, options, "wavelength_m", "energy")
    try:
        return None if energy is None else wavelength_of(1000 * energy, energy, f"{file.path}: 'meta/energy'", "keV")
    except ValueError as error:
        raise ContractError(str(error)) from None


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


def _bad_pixels(
    file: KeyedFile, chunks: list[str], shape: tuple[int, ...], options: ConversionOptions
) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Return where a weight is zero in any frame, (H, W), None without weights; and where frames differ."""
    bad: NDArray[np.bool_] | None = None
    said: list[str] = []
    common = [f"{group}/weight2d" for group in ("common", "info", "meta")]
    for key in (*common, *(f"{chunk}/weights" for chunk in chunks)):
        if key not in file or math.prod(file.shape(key)) < 2:  # one weight is that of all pixels, none is 1
            continue
        if file.shape(key)[-2:] != shape:
            raise ContractError(f"{file.path}: '{key}' has shape {file.shape(key)}; wanted frames of {shape}")
        found, differs = read_file_mask(file, key, options, lambda weights: weights == 0)
        bad, said = found if bad is None else bad | found, [*said, *differs]
    return bad, tuple(said)


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
