"""What can be asked of a conversion: units, geometry, orientation, size, masks, and which exposures."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import PIXEL_M
from ptycho.formats.raw import Quantity, Unit

POSITIVE = {
    "photons_per_unit": "--photons-per-unit",
    "energy_ev": "--energy",
    "wavelength_m": "--wavelength",
    "distance_m": "--distance",
    "detector_pixel_m": "--detector-pixel",
    "pixel_size_m": "--pixel-size",
}
"""Fields that must be above 0, and their options."""
MAX_NUMBERS = 50_000_000
"""Most exposures that a list of ranges may name."""


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """Options of `ptycho convert`; None: what the file says, or nothing."""

    format: str | None = None
    """Name of the format; None: what the files are recognized as."""
    variant: str | None = None
    """Which convention of its format a file follows, where it does not say itself."""
    follow_links: bool = False
    """Read files outside the folder of an input that it links to."""
    quantity: Quantity | None = None
    photons_per_unit: float | None = None
    """Photons per unit of the frames (of their square, if they are amplitudes); rounded to whole photons."""
    frames_last: bool | None = None
    zero_frequency: str | None = None
    """"center" or "corner"."""
    transpose: bool = False
    """Exchange rows and columns of the frames, before the flips."""
    flip_x: bool = False
    """Reverse the columns of the frames."""
    flip_y: bool = False
    """Reverse the rows of the frames."""
    crop: int | None = None
    """Side of the square around the zero frequency that is kept [px of the file]."""
    center: tuple[int, int] | None = None
    """(row, column) of the zero frequency, after transposition and flips."""
    bin: int = 1
    """Pixels along an axis whose counts are added."""
    pad: int | None = None
    """Side that frames are extended to, by bad pixels [px after binning]."""
    position_unit: Unit | None = None
    position_columns: str | None = None
    """Order of the columns of a table without a header: "xy" or "yx"."""
    swap_positions: bool = False
    """Exchange x and y, before the signs."""
    negate_x: bool = False
    negate_y: bool = False
    position_index: str | None = None
    """Numbers of the positions that belong to the frames, in their order: "0-99,105"."""
    leave_out: str | None = None
    """Exposures that are left out, counted from 0 in the file: "5,17-30"."""
    energy_ev: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    pixel_size_m: float | None = None
    """Pixel of the object, for the frames as they are in the file."""
    probe: Path | None = None
    """File with a probe, in place of that of the scan."""
    estimate_probe: float | None = None
    """Defocus of a probe made of the mean pattern [m]."""
    without_object: bool = False
    """Start from an object of ones, whatever the file has."""
    mask: Path | None = None
    """File with a mask in the orientation of the frames in the file."""
    mask_marks: str | None = None
    """What a mask's nonzero pixels are: "bad" or "good"."""
    mask_saturated: bool = False
    background: str | None = None
    """Mean counts per exposure: a number, or a file in the orientation of the frames in the file."""
    exposure_scale: str | None = None
    """Flux of every exposure of the file: a file, or "frames", in proportion to their photons."""
    background_subtracted: bool = False
    """The background is missing in the frames and is added to them."""

    def __post_init__(self) -> None:
        for name, option in POSITIVE.items():
            check_positive(option, getattr(self, name))
        check_pixel(POSITIVE["pixel_size_m"], self.pixel_size_m)

    @property
    def files(self) -> list[Path]:
        """Files that are added to the scan: probe, mask, background and flux."""
        given = [self.probe, self.mask, self.background, self.exposure_scale]
        return [Path(name) for name in given if name is not None and Path(name).is_file()]

    @property
    def orients(self) -> bool:
        """Whether an option says how frames or positions are oriented."""
        return any(
            (self.transpose, self.flip_x, self.flip_y, self.swap_positions, self.negate_x, self.negate_y, self.variant)
        )


def check_positive(option: str, value: float | None) -> None:
    """Refuse the value of an option that is no finite number above 0; None: it was not given.

    Raises
    ------
    ValueError
        If it is none.
    """
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{option} {value:g}: wanted a number above 0")


def check_pixel(option: str, value: float | None, unit_m: float = 1.0) -> None:
    """Refuse a pixel of an object that no microscope has; None: the option was not given.

    Parameters
    ----------
    option : str
        As it is typed.
    value : float, optional
        What it was given.
    unit_m : float
        Its unit [m].

    Raises
    ------
    ValueError
        If it is not above 0, or not in `PIXEL_M`.
    """
    check_positive(option, value)
    if value is not None and not PIXEL_M[0] <= value * unit_m <= PIXEL_M[1]:
        unit = "m" if unit_m == 1 else "nm"
        raise ValueError(f"{option} {value:g}: read as a pixel of {value:g} {unit}; wanted one of 1 pm to 1 mm")


def parse_numbers(text: str, option: str) -> NDArray[np.int64]:
    """Return the numbers of a list such as "5,17-30"; a range includes its end.

    Raises
    ------
    ValueError
        If the text is no such list.
    """
    numbers: list[Iterable[int]] = []
    total = 0
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        total += last - first + 1
        if last < first or total > MAX_NUMBERS:
            raise ValueError(f"{option} {text[:40]}: wanted numbers and ranges, such as 5,17-30")
        numbers.append(range(first, last + 1))
    return np.array([number for part in numbers for number in part], np.int64)


def join_numbers(numbers: Iterable[int], limit: int = 12) -> str:
    """Return numbers as a list of at most `limit` ranges, such as "5,17-30", the inverse of `parse_numbers`."""
    ordered = np.unique(np.fromiter(numbers, np.int64))
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if ordered.size else []
    parts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ",".join(parts[:limit]) + (f",… ({ordered.size} in all)" if len(parts) > limit else "")
