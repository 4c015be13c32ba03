"""Damage to HDF5 files that stay valid: other arrays, groups, links and attributes in the place of what was there."""

import io

import h5py
import numpy as np

NUMBERS = (0.0, -1.0, 1e-300, 1e9, 1e300, np.nan, np.inf)


def edit_hdf5(content, rng):
    """Edit one array or attribute of a file."""
    buffer = io.BytesIO(content)
    try:
        with h5py.File(buffer, "r+") as file:
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            attributes = [(name, key) for name in ["/", *names] for key in file[name].attrs]
            if not names:
                return content, "no arrays"
            if attributes and rng.random() < 0.2:
                how = _edit_attribute(file, *attributes[rng.integers(len(attributes))], rng)
            else:
                how = _edit_dataset(file, names[rng.integers(len(names))], rng)
    except (OSError, RuntimeError, KeyError, ValueError):
        return content, "not edited"
    return buffer.getvalue(), how


def _edit_attribute(file, name, key, rng):
    value = [*NUMBERS, "x", np.zeros(0), np.zeros((2, 2)), h5py.Empty("f8"), "é"][rng.integers(len(NUMBERS) + 5)]
    file[name].attrs[key] = value
    return f"attribute '{key}' of '{name}': {str(value)[:30]}"


def _edit_dataset(file, name, rng):
    array = np.asarray(file[name][()])
    kind = rng.integers(5)
    del file[name]
    if kind == 0:
        return f"'{name}' removed"
    if kind == 1:
        return _put_link(file, name, rng)
    if kind == 2:
        return _put_oddity(file, name, array, rng)
    array = _other_values(array, rng) if kind == 3 else _other_array(array, rng)
    file[name] = array
    return f"'{name}': {array.dtype} {array.shape}"


def _put_link(file, name, rng):
    links = [
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink(f"/{name}"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("nowhere.h5", "/x"),
        h5py.ExternalLink("../../etc/passwd", "/x"),
    ]
    number = int(rng.integers(len(links)))
    file[name] = links[number]
    return f"'{name}': link {number}"


def _put_oddity(file, name, array, rng):
    kind = rng.integers(6)
    if kind == 0:
        file.create_group(name)
    elif kind == 1:
        file[name] = h5py.Empty("f4")
    elif kind == 2:
        file.create_dataset(name, shape=(10**12,), dtype="f8", chunks=(1024,))
    elif kind == 3:
        file[name] = np.array([b"text", b"x"])
    elif kind == 4:
        file.create_dataset(name, data=array if array.ndim else array[None], compression="gzip")
    else:
        file.create_dataset(name, shape=(3,), dtype=h5py.string_dtype())
    return f"'{name}': oddity {kind}"


def _other_values(array, rng):
    array, number = array.copy(), NUMBERS[rng.integers(len(NUMBERS))]
    if array.size and array.dtype.kind in "iufc":
        place = slice(None) if rng.random() < 0.3 else int(rng.integers(array.size))
        with np.errstate(all="ignore"):
            array.reshape(-1)[place] = np.asarray(number).astype(array.dtype)
    return array


def _other_array(array, rng):
    others = [array[None], array[..., None], array.ravel(), array.T, np.zeros(0), np.zeros((2, 0)), np.array(1.0)]
    others += [array.astype("f4") if array.dtype.kind in "iuf" else array, np.zeros((3, 3), bool)]
    if array.ndim:
        others += [array[:0], array[:-1], array[..., :-1], np.concatenate([array, array])]
    return others[rng.integers(len(others))]
