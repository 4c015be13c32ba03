"""Intact files of other programs: a small scan in each format, as the tests of the readers write it."""

import h5py
import numpy as np
import tifffile

from tests.fuzz.originals import EXPOSURES
from tests.raw_scans import COUNT, DETECTOR_PIXEL, DISTANCE, PIXEL, POSITIONS, WAVELENGTH, N, measurement
from tests.test_readers_hdf5 import as_matlab, write_cxi, write_ptyd
from tests.test_readers_keyed import pinn_arrays, product


def counts(dtype=np.uint16):
    return measurement(dtype=dtype)["intensity"]


def plain_npz(folder):
    np.savez(folder / "raw.npz", **measurement(dtype=np.uint16))
    return folder / "raw.npz"


def compressed_npz(folder):
    """With frames last, in Fortran order, a mask and a background."""
    raw = measurement(dtype=np.uint16)
    raw["intensity"] = np.asarray(np.moveaxis(raw["intensity"], 0, 2), order="F")
    more = {"bad_pixels": np.zeros((N, N), bool), "background": np.zeros((N, N)), "exposure_scale": np.ones(COUNT)}
    np.savez_compressed(folder / "raw.npz", **raw, **more, objectGuess=np.ones((60, 60), complex))
    return folder / "raw.npz"


def plain_hdf5(folder):
    with h5py.File(folder / "raw.h5", "w") as file:
        file.update(measurement(dtype=np.uint16))
    return folder / "raw.h5"


def cxi(folder):
    detector = "entry_1/instrument_1/detector_1"
    more = {f"{detector}/mask": np.zeros((N, N), np.uint32), f"{detector}/data_dark": np.zeros((2, N, N))}
    more[f"{detector}/basis_vectors"] = np.array([[0, -DETECTOR_PIXEL, 0], [-DETECTOR_PIXEL, 0, 0]])
    write_cxi(folder / "raw.h5", counts(), np.pad(POSITIONS * PIXEL, ((0, 0), (0, 1))), **more)
    return folder / "raw.h5"


def ptypy(folder):
    write_ptyd(folder / "raw.h5", counts())
    with h5py.File(folder / "probe.h5", "w") as file:
        file["content/probe/SscanG00/data"] = measurement()["probe"][None].astype(np.complex64)
        file["content/obj/SscanG00/data"] = np.ones((1, 50, 40), np.complex64)
        file["content/obj/SscanG00/_origin"] = np.array([-5, -3]) * PIXEL
        file["content/obj/SscanG00/_psize"] = np.array([PIXEL, PIXEL])
    return folder / "raw.h5", folder / "probe.h5"


def hxn(folder):
    with h5py.File(folder / "raw.h5", "w") as file:
        file["diffamp"] = np.sqrt(np.fft.fftshift(counts(), axes=(1, 2)).astype(float))
        file["points"] = np.stack([-POSITIONS[:, 0], POSITIONS[:, 1]]) * PIXEL * 1e6
        file.update({"lambda_nm": WAVELENGTH * 1e9, "z_m": DISTANCE, "ccd_pixel_um": DETECTOR_PIXEL * 1e6})
    return folder / "raw.h5"


def ptychoshelves(folder):
    with h5py.File(folder / "raw.h5", "w", userblock_size=512) as file:
        file["fmag"] = as_matlab(np.fft.fftshift(np.sqrt(counts().astype(float)), axes=(1, 2)).transpose(1, 2, 0))
        file["fmask"] = as_matlab(np.zeros((N, N, COUNT)))
        file["p/lambda"], file["p/dx_spec"] = [[WAVELENGTH]], as_matlab(np.array([[PIXEL, PIXEL]]))
        file["outputs/probe_positions"] = as_matlab(POSITIONS - N // 2 - 15)
        file["probe"] = as_matlab(measurement()["probe"][..., None])
        file["object"] = as_matlab(np.ones((51, 40), complex))
    return folder / "raw.h5"


def ptylab(folder):
    with h5py.File(folder / "raw.h5", "w") as file:
        file.update({"ptychogram": counts(), "encoder": POSITIONS[:, ::-1] * PIXEL, "orientation": 3})
        file.update({"wavelength": WAVELENGTH, "dxd": DETECTOR_PIXEL, "zo": [[DISTANCE]]})
        file["entrancePupilDiameter"] = 6 * PIXEL
    return folder / "raw.h5"


def ptychodus_hdf5(folder):
    meters = (POSITIONS - np.array([20, 25])) * PIXEL
    obj = np.ones((1, 50, 40), np.complex64)
    product(folder / "product.h5", "since", obj, (0, 0), np.arange(COUNT), meters)
    with h5py.File(folder / "raw.h5", "w") as file:
        file.update({"patterns": counts(), "indexes": np.arange(COUNT), "bad_pixels": np.zeros((N, N), bool)})
    return folder / "raw.h5", folder / "product.h5"


def ptychodus_npz(folder):
    meters = (POSITIONS - np.array([20, 25])) * PIXEL
    obj = np.ones((1, 50, 40), np.complex64)
    product(folder / "raw.npz", "before", obj, (0, 0), np.arange(COUNT), meters, patterns=counts())
    return folder / "raw.npz"


def paired(folder):
    with h5py.File(folder / "raw_dp.h5", "w") as file:
        file["dp"] = counts()
    with h5py.File(folder / "raw_para.h5", "w") as file:
        file.update({"ppX": POSITIONS[:, :1] * PIXEL, "ppY": POSITIONS[:, 1:] * PIXEL, "probe": measurement()["probe"]})
        file.update({"lambda": WAVELENGTH, "dx": PIXEL})
    return folder / "raw_dp.h5", folder / "raw_para.h5"


def tike(folder):
    corner = np.fft.ifftshift(counts(), axes=(1, 2))[None].astype(np.float32)
    probe = measurement()["probe"][None, None, None, None].astype(np.complex64)
    np.savez(folder / "raw.npz", data=corner, scan=(POSITIONS[:, ::-1] - N / 2)[None], probe=probe)
    return folder / "raw.npz"


def ptychopinn(folder):
    arrays = pinn_arrays(counts().astype(np.float32))
    del arrays["_metadata"]
    np.savez(folder / "raw.npz", **arrays)
    return folder / "raw.npz"


def tiff(folder):
    """Two stacks, one of them compressed, and a table."""
    tifffile.imwrite(folder / "a.tif", counts()[:6], photometric="minisblack")
    tifffile.imwrite(folder / "b.tif", counts()[6:], photometric="minisblack", compression="zlib")
    rows = [f"{y},{x}" for x, y in POSITIONS]
    (folder / "positions.csv").write_text("\n".join(["y_px,x_px", *rows]), encoding="utf-8")
    return folder / "a.tif", folder / "b.tif", folder / "positions.csv"


def additions(folder):
    """Mask, background, flux and probe in files of their own."""
    tifffile.imwrite(folder / "mask.tif", np.zeros((N, N), np.uint8))
    np.save(folder / "background.npy", np.full((N, N), 0.5))
    np.savetxt(folder / "flux.txt", np.ones(COUNT))
    np.savez(folder / "probe.npz", probeGuess=measurement()["probe"])
    return tuple(folder / name for name in ("mask.tif", "background.npy", "flux.txt", "probe.npz"))


def scan_product(folder):
    """A ptychodus product of the exposures of `originals.write_scan`."""
    meters = np.stack([np.linspace(-8, 8, EXPOSURES)] * 2, axis=1) * PIXEL
    numbers = np.arange(EXPOSURES)
    product(folder / "product.h5", "since", np.ones((1, 50, 40), np.complex64), (0, 0), numbers, meters)
    return folder / "product.h5"
