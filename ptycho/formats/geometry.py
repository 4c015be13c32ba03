"""Lengths of a scan: wavelength, and the pixel of the object that the converted frames give."""

import math
from dataclasses import dataclass

from ptycho.formats.frames import FrameTransform
from ptycho.formats.inputs import KeyedFile, first_of, number
from ptycho.formats.options import POSITIVE, ConversionOptions
from ptycho.formats.raw import HC_EV_M, JOULE_PER_EV, Geometry
from ptycho.workflow.files import ContractError

MIN_ENERGY_EV, MAX_ENERGY_EV = 20.0, 6e6
"""Photon energies of scans: below, where 8.8 is keV, and above, the unit is another than eV or joule."""


@dataclass(frozen=True)
class Lengths:
    """What is known of lengths; None: nothing."""

    pixel_m: float | None
    """Pixel of the converted object."""
    wavelength_m: float | None
    scale: tuple[float, float]
    """Pixels of the converted object per pixel of the object of the frames in the file, along x and y."""


def wavelength_of(energy_ev: float, written: float, where: str, unit: str = "eV") -> float:
    """Return the wavelength of a photon energy [m].

    Parameters
    ----------
    energy_ev : float
        The energy, as its unit says [eV].
    written : float
        The number as it is written.
    where : str
        Where it is written, in the message.
    unit : str
        Its unit.

    Raises
    ------
    ValueError
        If it is none of a scan's: its unit is asked for. A wavelength is taken as it is.
    """
    if MIN_ENERGY_EV <= energy_ev <= MAX_ENERGY_EV:
        return HC_EV_M / energy_ev
    others = {"eV": 1.0, "keV": 1000.0, "J": 1 / JOULE_PER_EV}
    plausible = [
        f"--energy {written * factor:.6g}, if it is in {other}"
        for other, factor in others.items()
        if MIN_ENERGY_EV <= written * factor <= MAX_ENERGY_EV
    ]
    if 0 < energy_ev < MIN_ENERGY_EV:
        plausible.append(f"--wavelength {HC_EV_M / energy_ev:.6g}, if it is right")
    raise ValueError(f"{where}: a photon energy of {written:.6g} {unit}; {', or '.join(plausible) or 'wanted eV'}")


def read_length(file: KeyedFile, options: ConversionOptions, name: str, *keys: str) -> float | None:
    """Return a length above 0 of a file, unless an option gives it; None if there is none.

    Parameters
    ----------
    file : KeyedFile
        The file.
    options : ConversionOptions
        What is asked.
    name : str
        Field of `options` that gives it in place of the file; an energy does for a wavelength, too.
    *keys : str
        Tried in this order.

    Raises
    ------
    ContractError
        If it is no such number; the message names the option.
    """
    if getattr(options, name) is not None or (name == "wavelength_m" and options.energy_ev is not None):
        return None
    option = "--energy or --wavelength" if name == "wavelength_m" else POSITIVE[name]
    value = number(file, *keys, option=option)
    if value is not None and value <= 0:
        key = first_of(file, *keys)
        raise ContractError(f"{file.path}: '{key}' is {value:.6g}; wanted a number above 0, or {option}")
    return value


def object_lengths(
    geometry: Geometry, transform: FrameTransform, options: ConversionOptions, steps: list[str]
) -> Lengths:
    """Combine what options and file say: pixel = wavelength · distance / (N · detector pixel).

    Parameters
    ----------
    geometry : Geometry
        What the file says.
    transform : FrameTransform
        What is done to the frames; cropped and padded frames have another object pixel, binned ones the same.
    options : ConversionOptions
        Lengths in it override those of the file.
    steps : list of str
        Where the pixel comes from is appended.

    Raises
    ------
    ValueError
        If a length is not positive, the photon energy is implausible, or the pixel is given for frames that are not
        square.
    """
    wavelength = options.wavelength_m or geometry.wavelength_m
    if options.energy_ev:
        wavelength = wavelength_of(options.energy_ev, options.energy_ev, f"--energy {options.energy_ev:g}")
    distance = options.distance_m or geometry.distance_m
    detector_pixel = options.detector_pixel_m or geometry.detector_pixel_m
    lengths = {"wavelength": wavelength, "distance": distance, "detector pixel": detector_pixel}
    given = options.pixel_size_m
    for name, length in {**lengths, "pixel": given, "object pixel": geometry.object_pixel_m}.items():
        if length is not None and not length > 0:
            raise ValueError(f"a {name} of {length} m; wanted more than 0")
    height, width = transform.oriented_shape
    scale = (transform.n_detector / width, transform.n_detector / height)
    asked = any((options.wavelength_m, options.energy_ev, options.distance_m, options.detector_pixel_m))
    in_file = given if given is not None else None if asked else geometry.object_pixel_m
    side = width if given is not None else geometry.object_pixel_side or width
    pixel = None
    if in_file is not None:
        if height != width and side == width:
            raise ValueError(
                f"an object pixel for frames of {height} × {width} px; wanted --energy, --distance and --detector-pixel"
            )
        pixel = in_file * side / transform.n_detector
    elif wavelength and distance and detector_pixel:
        pixel = wavelength * distance / (transform.n_detector * detector_pixel)
    if pixel is not None:
        steps.append(_said(pixel, lengths))
    return Lengths(pixel, wavelength, scale)


def _said(pixel: float, lengths: dict[str, float | None]) -> str:
    """Say what the pixel of the object is, and of which lengths it was made."""
    known = ", ".join(f"{name} {length:.6g} m" for name, length in lengths.items() if length is not None)
    known = f" ({known})" if known else ""
    if not 0 < pixel < math.inf:
        raise ValueError(f"an object pixel of {pixel:g} m{known}; wanted a length above 0: one of these is wrong")
    return f"object pixel {pixel * 1e9:.6g} nm{known}"
