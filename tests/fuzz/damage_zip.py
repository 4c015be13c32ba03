"""Damage to archives, NPZ and .keras, whose checksums fit afterwards: to members, to arrays and their headers."""

import ast
import io
import struct
import zipfile

import numpy as np

from tests.fuzz.damage_hdf5 import edit_hdf5
from tests.fuzz.damage_text import edit_json

SHAPES = ((), (0,), (1,), (-1,), (3, 0), (10**12,), (2**31, 2**31), (2**63,), (1,) * 40, (True,), (2.5,), "x", None)
DTYPES = ("<f4", "<f8", ">f8", "<c16", "<c8", "|b1", "|u1", "<i8", ">i4", "|O", "<U7", "<U0", "|S5", "|V0", "|V8")
DTYPES += ("<M8[s]", "<f2", "", "x", None, 7, [("a", "<f4"), ("b", "<i2")], [("a", "|O")], ("<f4", (10**6,)))
NUMBERS = (0, -1, 1, 7, 1e9, -1e300, 1e300, np.nan, np.inf, -np.inf, 2**31, 2**62)


def edit_zip(content, rng):
    """Edit one member, or exchange, remove, rename, repeat or compress members."""
    members = _members(content)
    if not members:
        return content, "an empty archive"
    if rng.random() < 0.75:
        number = int(rng.integers(len(members)))
        name, member = members[number]
        changed, how = _edit_member(name, member, rng)
        members[number] = name, changed
        return _archive(members), f"{name}: {how}"
    kind = [_exchange, _remove, _rename, _repeat, _compress][rng.integers(5)]
    return kind(members, rng)


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, member in members:
            info = zipfile.ZipInfo(name)  # without the time of day
            info.compress_type = compression
            archive.writestr(info, member)
    return buffer.getvalue()


def _edit_member(name, member, rng):
    from tests.fuzz.damage import damage_bytes

    suffix = name.rpartition(".")[2]
    edit = {"npy": edit_npy_file, "json": edit_json, "h5": edit_hdf5}.get(suffix)
    if edit is None or rng.random() < 0.15:
        return damage_bytes(member, rng)
    return edit(member, rng)


def _exchange(members, rng):
    first, second = rng.integers(len(members), size=2)
    (a, x), (b, y) = members[first], members[second]
    members[first], members[second] = (a, y), (b, x)
    return _archive(members), f"{a} and {b} exchanged"


def _remove(members, rng):
    name, _ = members.pop(int(rng.integers(len(members))))
    return _archive(members), f"{name} removed"


def _rename(members, rng):
    number = int(rng.integers(len(members)))
    name, member = members[number]
    new = [f"{name}.npy", name.removesuffix(".npy"), f"../{name}", "x.npy", f"{name}\n", "", "é.npy"][rng.integers(7)]
    members[number] = new, member
    return _archive(members), f"{name} renamed to {new!r}"


def _repeat(members, rng):
    name, member = members[int(rng.integers(len(members)))]
    changed, how = _edit_member(name, member, rng)
    buffer = io.BytesIO(_archive(members))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive._didModify, info = True, zipfile.ZipInfo(name)
        archive.NameToInfo.pop(name, None)  # without a warning of the library
        archive.writestr(info, changed)
    return buffer.getvalue(), f"{name} twice, then {how}"


def _compress(members, rng):
    return _archive(members, zipfile.ZIP_DEFLATED), "compressed"


def edit_npy_file(content, rng):
    """Edit the header of an array, its values, or, where it is a text of JSON, that."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError):
        return content, "no array"
    if array.dtype.kind == "U" and rng.random() < 0.7:
        text, how = edit_json(str(array).encode(), rng)
        return _npy(np.array(text.decode("utf-8", "replace"))), how
    if rng.random() < 0.5:
        return _edit_header(content, rng)
    return _edit_array(array, rng)


def _npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _edit_header(content, rng):
    """Give an array another shape, dtype or order than its values have, another version, or no header at all."""
    (size,) = struct.unpack("<H", content[8:10])
    header, values = ast.literal_eval(content[10 : 10 + size].decode("latin1")), content[10 + size :]
    version, key = b"\x01\x00", ["shape", "shape", "descr", "descr", "fortran_order", "version", "key"][rng.integers(7)]
    if key == "shape":
        header["shape"] = _other_shape(header["shape"], rng)
    elif key == "descr":
        header["descr"] = DTYPES[rng.integers(len(DTYPES))]
    elif key == "fortran_order":
        header["fortran_order"] = [True, False, None, 7][rng.integers(4)]
    elif key == "version":
        version = [b"\x02\x00", b"\x03\x00", b"\x04\x00", b"\x00\x00", b"\xff\xff"][rng.integers(5)]
    else:
        del header[list(header)[rng.integers(3)]]
    text = repr(header).encode() + b" \n"
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + values, f"header {header}, version {version!r}"


def _other_shape(shape, rng):
    others = [shape[::-1], (*shape, 1), (1, *shape), shape[:-1], shape[1:], tuple(2 * side for side in shape)]
    others += [tuple(max(side - 1, 0) for side in shape), (*shape[:-1], 10**9), (np.prod(shape, dtype=int).item(),)]
    others += SHAPES
    return others[rng.integers(len(others))]


def _edit_array(array, rng):
    """Replace one value or all, the dtype or the shape, so that header and values fit each other."""
    kind = ["value", "values", "dtype", "shape", "order"][rng.integers(5)]
    number = NUMBERS[rng.integers(len(NUMBERS))]
    with np.errstate(all="ignore"):
        if kind in ("value", "values") and array.dtype.kind in "iufcb" and array.size:
            cast = np.asarray(number).astype(array.dtype)
            array = array.copy()
            array.reshape(-1)[slice(None) if kind == "values" else int(rng.integers(array.size))] = cast
            return _npy(array), f"{kind} {number}"
        if kind == "dtype":
            dtype = ["f4", "f8", "f2", ">f4", "c16", "i2", "?", "u8", "U5", "S3"][rng.integers(10)]
            return _npy(_as_dtype(array, dtype)), f"as {dtype}"
    if kind == "order" and array.ndim > 1:
        return _npy(np.asfortranarray(array)), "in Fortran order"
    others = [array[None], array[..., None], array.ravel(), array.T, array[:0] if array.ndim else array]
    others += [np.concatenate([array, array]) if array.ndim else array, array[..., :-1] if array.ndim else array]
    array = others[rng.integers(len(others))]
    return _npy(array), f"of shape {array.shape}"


def _as_dtype(array, dtype):
    """Cast an array; where its values have no such form, as a text is no number, zeros take their place."""
    try:
        return array.astype(dtype)
    except (TypeError, ValueError):
        return np.zeros(array.shape, dtype)
