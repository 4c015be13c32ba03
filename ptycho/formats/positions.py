"""Positions of a scan: matched to frames, in pixels of the object, plausible beside the beam."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ptycho.formats.options import ConversionOptions, join_numbers, parse_numbers
from ptycho.formats.raw import METERS, RawScan
from ptycho.workflow.files import ContractError

RUNAWAY = 10.0
"""A position is runaway if it is so many times farther from the median than nine tenths of all positions."""
STEP_TO_BEAM = (0.01, 1.0)
"""Plausible range of the median distance of neighbors, as a fraction of the beam's diameter."""
PIXEL_OPTIONS = "--pixel-size, or --energy (or --wavelength), --distance and --detector-pixel"
"""The options that give the size of an object pixel."""


@dataclass(frozen=True)
class Exposures:
    """The exposures that are converted."""

    numbers: NDArray[np.int64]
    """(m,) their numbers among the frames of the file, ascending."""
    positions: NDArray[np.float64]
    """(m, 2) patch centers, [x, y], in the unit of the file."""

    def without(self, numbers: ArrayLike) -> "Exposures":
        """Return the exposures without some."""
        keep = ~np.isin(self.numbers, numbers)
        return Exposures(self.numbers[keep], self.positions[keep])


def select_exposures(raw: RawScan, options: ConversionOptions, steps: list[str]) -> Exposures:
    """Match positions to frames, and leave out what is to be left out.

    Parameters
    ----------
    raw : RawScan
        The scan.
    options : ConversionOptions
        `position_index` and `leave_out` are used.
    steps : list of str
        What is done is appended.

    Raises
    ------
    ContractError
        If frames and positions do not match, a position is not finite or far from all others, or nothing is left.
    ValueError
        If an option names exposures that do not exist.
    """
    count = len(raw.frames)
    if not count:
        raise ContractError(f"{raw.name}: 0 frames; wanted at least one")
    left_out = _left_out(options, count)
    numbers, rows = _match(raw, options, np.setdiff1d(np.arange(count), left_out), steps)
    exposures = Exposures(numbers, raw.positions[rows]).without(left_out)
    if left_out.size:
        steps.append(f"exposures {join_numbers(left_out)} left out, as asked")
    if not len(exposures.numbers):
        raise ContractError(f"{raw.name}: no exposure is left; the file has {count}")
    _check_finite(raw, exposures)
    return exposures


def _left_out(options: ConversionOptions, count: int) -> NDArray[np.int64]:
    left_out = parse_numbers(options.leave_out, "--leave-out") if options.leave_out else np.zeros(0, np.int64)
    if left_out.max(initial=0) >= count:
        raise ValueError(f"--leave-out {options.leave_out}: the file has exposures 0-{count - 1}")
    return left_out


def _match(
    raw: RawScan, options: ConversionOptions, kept: NDArray[np.int64], steps: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of frames that have a position, and the row of the position of each."""
    count, given = len(raw.frames), len(raw.positions)
    if options.position_index is not None:
        index = parse_numbers(options.position_index, "--position-index")
        if len(index) != count or index.max() >= given:
            raise ValueError(
                f"--position-index {options.position_index[:40]}: {len(index)} numbers up to {index.max()}; wanted one "
                f"for each of {count} frames, below {given}"
            )
        steps.append(f"positions {join_numbers(index)} of {given} taken, as asked")
        return np.arange(count), index
    if raw.frame_numbers is None and raw.position_numbers is None:
        if given == count:
            return np.arange(count), np.arange(count)
        if given == len(kept):
            steps.append(f"{given} positions belong to the frames that are not left out, in their order")
            return kept, np.arange(given)
        cure = (
            f"--position-index 0-{count - 1} takes the first {count}"
            if given > count
            else f"--leave-out with the numbers of the {count - given} frames without one matches the others in order"
        )
        frames, positions = raw.key("frames"), raw.key("positions")
        raise ContractError(
            f"{raw.name}: '{frames}' has {count} frames but '{positions}' {given} positions; wanted one for each "
            f"frame: {cure}"
        )
    frame_numbers = _numbers_of(raw, "frames", count, raw.frame_numbers)
    position_numbers = _numbers_of(raw, "positions", given, raw.position_numbers)
    if len(np.unique(position_numbers)) != given:
        key = raw.key("position_numbers")
        raise ContractError(f"{raw.name}: two positions have the same number in '{key}'; wanted one for each frame")
    order = np.argsort(position_numbers)
    place = np.clip(np.searchsorted(position_numbers, frame_numbers, sorter=order), 0, max(given - 1, 0))
    rows = order[place] if given else place
    matched = position_numbers[rows] == frame_numbers if given else np.zeros(count, bool)
    if options.leave_out is None:
        _check_start(raw, frame_numbers, position_numbers)
    steps.append(f"positions matched to frames by their numbers: {int(matched.sum())} of {count} frames have one")
    return np.flatnonzero(matched), rows[matched]


def _check_start(raw: RawScan, frame_numbers: NDArray[np.int64], position_numbers: NDArray[np.int64]) -> None:
    """Refuse numbers of as many frames as positions that are the same, but counted from another one."""
    first, second = np.sort(frame_numbers), np.sort(position_numbers)
    if len(first) == len(second) and len(first) and first[0] != second[0] and (np.diff(first) == np.diff(second)).all():
        frames = raw.key("frames" if raw.frame_numbers is None else "frame_numbers")
        positions = raw.key("positions" if raw.position_numbers is None else "position_numbers")
        raise ContractError(
            f"{raw.name}: {len(first)} frames are counted from {first[0]} ('{frames}'), as many positions from "
            f"{second[0]} ('{positions}'): --position-index 0-{len(first) - 1} takes them in order, --leave-out with "
            "the frames that have no position takes them by number"
        )


def _numbers_of(raw: RawScan, name: str, count: int, numbers: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the numbers of frames or positions, of which there are some; those of their order if the file has none."""
    if numbers is None:
        return np.arange(count)
    if len(numbers) != count:
        key = raw.key(f"{name[:-1]}_numbers")
        raise ContractError(
            f"{raw.name}: '{key}' has {len(numbers)} numbers but '{raw.key(name)}' {count} {name}; wanted one for each"
        )
    return numbers


def _check_finite(raw: RawScan, exposures: Exposures) -> None:
    positions, numbers = exposures.positions, exposures.numbers
    broken = numbers[~np.isfinite(positions).all(axis=1)]
    if broken.size:
        names = join_numbers(broken)
        raise ContractError(f"{raw.name}: no finite position of exposure {names}; --leave-out {names} leaves it out")
    if len(numbers) > 1 and not np.ptp(positions, axis=0).any():
        raise ContractError(
            f"{raw.name}: all {len(numbers)} exposures have the position ({positions[0, 0]:.4g}, "
            f"{positions[0, 1]:.4g}) (x, y); wanted where each was taken"
        )
    distance = np.abs(positions - np.median(positions, axis=0))
    usual = np.quantile(distance, 0.9, axis=0).max()
    runaway = numbers[(distance > RUNAWAY * max(usual, 1e-300)).any(axis=1)] if usual > 0 else numbers[:0]
    if runaway.size:
        names = join_numbers(runaway)
        far = positions[np.isin(numbers, runaway)][0]
        raise ContractError(
            f"{raw.name}: exposure {names} is at ({far[0]:.4g}, {far[1]:.4g}) (x, y), over ten times as far as nine "
            f"tenths of all; --leave-out {names} leaves it out"
        )


def orient_positions(
    positions: NDArray[np.float64], options: ConversionOptions, steps: list[str]
) -> NDArray[np.float64]:
    """Exchange x and y, then change signs, as options ask; (m, 2), [x, y]."""
    if options.swap_positions:
        positions = positions[:, ::-1]
        steps.append("positions: x and y exchanged")
    signs = np.array([-1.0 if options.negate_x else 1.0, -1.0 if options.negate_y else 1.0])
    for axis, sign in zip("xy", signs, strict=True):
        if sign < 0:
            steps.append(f"positions: {axis} negated")
    return positions * signs


def to_pixels(
    positions: NDArray[np.float64], unit: str, pixel_m: float | None, scale: tuple[float, float], steps: list[str]
) -> NDArray[np.float64]:
    """Return positions in pixels of the converted object, (m, 2).

    Parameters
    ----------
    positions : (m, 2) float64
        [x, y].
    unit : {"m", "um", "nm", "px"}
        Their unit; px are pixels of the object for the frames as they are in the file.
    pixel_m : float or None
        Pixel of the converted object [m].
    scale : (float, float)
        Pixels of the file's object per pixel of the converted one, inverted: along x and y.
    steps : list of str
        What is done is appended.

    Raises
    ------
    ValueError
        If a length is needed and the size of a pixel is not known.
    """
    if unit == "px":
        if scale != (1.0, 1.0):
            steps.append(f"positions: multiplied by {scale[0]:.6g}, as the pixel of the object changes with the frames")
        return positions * np.array(scale)
    if pixel_m is None:
        raise ValueError(f"positions in {unit}, but no size of an object pixel; {PIXEL_OPTIONS} would give it")
    steps.append(f"positions: from {unit} to object pixels of {pixel_m * 1e9:.6g} nm")
    return positions * (METERS[unit] / pixel_m)


def step_px(positions: NDArray[np.float64]) -> float | None:
    """Median distance of (m, 2) positions from their nearest neighbors, repeated positions left out; None for one."""
    unique = np.unique(positions, axis=0)
    if len(unique) < 2:
        return None
    distances = np.asarray(cKDTree(unique).query(unique, k=2)[0])
    return float(np.median(distances[:, 1]))


def check_step(
    name: str,
    positions: NDArray[np.float64],
    diameter_px: float,
    unit: str,
    pixel_m: float | None = None,
    *,
    asked: bool,
) -> str | None:
    """Compare the step of a scan with the diameter of its beam.

    Parameters
    ----------
    name : str
        The files, in the message.
    positions : (m, 2) float64
        In object pixels.
    diameter_px : float
        Of the circle that holds 90 % of the beam's photons.
    unit : str
        Unit that the positions were taken to have.
    pixel_m : float, optional
        Pixel of the object [m].
    asked : bool
        The unit is that of an option: an implausible step is a warning.

    Returns
    -------
    str or None
        The warning.

    Raises
    ------
    ContractError
        If the step is implausible and the unit was not asked for.
    """
    step = step_px(positions)
    if step is None or STEP_TO_BEAM[0] * diameter_px <= step <= STEP_TO_BEAM[1] * diameter_px:
        return None
    pixels = "" if pixel_m is None or unit == "px" else f" and an object pixel of {pixel_m * 1e9:.4g} nm"
    finding = f"{name}: with positions in {unit}{pixels} a step is {step:.3g} px, the beam {diameter_px:.3g} px wide"
    if asked:
        return finding
    if unit == "px":
        span = float(np.ptp(positions, axis=0).max())
        likely = "nm" if step > diameter_px else "m" if span < 1e-2 else "um"
        raise ContractError(
            f"{finding}: --position-unit {likely}? (with {PIXEL_OPTIONS}; --position-unit px if it is right)"
        )
    raise ContractError(
        f"{finding}: {_plausible_unit(step, diameter_px, unit, pixel_m)}? --position-unit {unit} if it is right, or "
        f"{PIXEL_OPTIONS}"
    )


def _plausible_unit(step_px: float, diameter_px: float, unit: str, pixel_m: float | None) -> str:
    """Return the unit of positions that would make the step plausible, as it is typed."""
    low, high = (share * diameter_px for share in STEP_TO_BEAM)
    units = METERS if pixel_m is None else {**METERS, "px": pixel_m}
    others = {name: step_px * meters / METERS[unit] for name, meters in units.items() if name != unit}
    return next((f"--position-unit {name}" for name, step in others.items() if low <= step <= high), "another unit")
