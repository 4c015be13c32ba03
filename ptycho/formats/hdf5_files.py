"""HDF5 files of other programs: links that stay in the folder, compressions, MATLAB's complex numbers."""

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.formats.inputs import check_size
from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError

MAX_LINKS = 20
"""Links that are followed to find one array."""
CACHE_BYTES = 1 << 26
"""Unpacked chunks that HDF5 keeps: one that spans several blocks of frames is unpacked once."""
FILTERS = {32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32015: "Zstandard", 32013: "ZFP", 32026: "Blosc2"}
"""Compressions that hdf5plugin adds to h5py."""


class Hdf5File:
    """An HDF5 file: arrays by name, soft and external links followed one by one.

    Parameters
    ----------
    path : path
        The file.
    follow_links : bool
        Also follow links to files outside its folder.

    Raises
    ------
    ContractError
        If it is damaged.
    """

    pickled: Sequence[str] = ()

    def __init__(self, path: Path, follow_links: bool = False):
        self.path, self.follow_links, self.is_used = path, follow_links, False
        self._folder = path.resolve().parent
        self._files: dict[Path, h5py.File] = {}
        self._root = self._open(path)

    def _open(self, path: Path) -> h5py.File:
        resolved = path.resolve()
        if resolved not in self._files:
            with reading(path, problem="not an HDF5 file, cut short or damaged"):
                require_file(path)
                self._files[resolved] = h5py.File(path, "r", locking=False, rdcc_nbytes=CACHE_BYTES)
        return self._files[resolved]

    def names(self, group: str = "") -> list[str]:
        """Names at the top, or in a group; links that lead nowhere included."""
        item = self._root if not group else self._find(group)
        with reading(self.path):
            return sorted(item) if isinstance(item, h5py.Group) else []

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def _find(self, key: str) -> Any:
        with reading(self.path, f"'{key}'"):
            return self._walk(self._root, key, MAX_LINKS)

    def _walk(self, item: Any, key: str, n_links: int) -> Any:
        """Return the group or dataset of a name below a group; None if there is none."""
        parts = [part for part in key.split("/") if part]
        for number, part in enumerate(parts):
            if not isinstance(item, h5py.Group):
                return None
            link = item.get(part, getlink=True)
            if isinstance(link, h5py.HardLink):
                item = item[part]
                continue
            if link is None or n_links == 0:
                return None
            rest = "/".join(parts[number + 1 :])
            if isinstance(link, h5py.SoftLink):
                target = posixpath.normpath(posixpath.join(item.name, link.path))
                return self._walk(item.file["/"], f"{target}/{rest}", n_links - 1)
            linked = self._linked_file(Path(item.file.filename), Path(link.filename), key)
            return self._walk(self._open(linked)["/"], f"{link.path}/{rest}", n_links - 1)
        return item

    def _linked_file(self, source: Path, name: Path, key: str) -> Path:
        """Return the file that a link of a file names; refuse one outside the folder of the input."""
        beside = source.resolve().parent
        candidates = [beside / name, beside / name.name]
        path = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
        if not (self.follow_links or path.resolve().is_relative_to(self._folder)):
            raise ContractError(
                f"{source}: '{key}' is in another folder, in {path}, which is not read; --follow-links reads it"
            )
        if not path.is_file():
            raise ContractError(f"{source}: '{key}' is in {path}, and there is no such file")
        return path

    def _dataset(self, key: str) -> h5py.Dataset:
        item = self._find(key)
        if not isinstance(item, h5py.Dataset):
            raise ContractError(f"{self.path}: '{key}' is no array")
        self._check_storage(item, key)
        with reading(self.path, f"'{key}'"):
            self._check_parts(item.dtype, f"'{key}'")
        return item

    def _check_parts(self, dtype: np.dtype[Any], what: str) -> None:
        """Refuse a type whose parts overlap, or reach beyond it: HDF5 would write beside the memory of what is read."""
        if dtype.subdtype is not None:
            self._check_parts(dtype.subdtype[0], what)
        end = 0
        parts = [(field[0], field[1]) for field in (dtype.fields or {}).values()]
        for part, offset in sorted(parts, key=itemgetter(1)):
            self._check_parts(part, what)
            if offset < end:
                raise ContractError(f"{self.path}: {what} has a type whose parts overlap, {dtype}: damaged")
            end = offset + part.itemsize
        if end > dtype.itemsize:
            raise ContractError(f"{self.path}: {what} has a type with parts beyond its end, {dtype}: damaged")

    def _check_storage(self, dataset: h5py.Dataset, key: str) -> None:
        """Refuse values in files outside the folder, and compressions that are not installed."""
        source = Path(dataset.file.filename)
        with reading(self.path, f"'{key}'"):
            raw = [name for name, *_ in dataset.external or ()]  # HDF5 looks for these where the process was started
            virtual = [part.file_name for part in dataset.virtual_sources()] if dataset.is_virtual else []
            properties = dataset.id.get_create_plist()
            codes = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
        if raw and not self.follow_links:
            raise ContractError(f"{source}: '{key}' is in another file, {raw[0]}; --follow-links reads it")
        for name in virtual:
            if name != "." and self._linked_file(source, Path(name), key) != source.resolve().parent / name:
                raise ContractError(f"{source}: '{key}' is in {name}, and there is no such file")
        missing = [code for code in codes if not _is_available(code)]
        if missing:
            name = FILTERS.get(missing[0], f"filter {missing[0]}")
            raise ContractError(f"{self.path}: '{key}' is compressed with {name}: pip install hdf5plugin, then repeat")

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array, which is not read."""
        with reading(self.path, f"'{key}'"):
            return tuple(self._dataset(key).shape or ())

    def array(self, key: str) -> NDArray[Any]:
        """Read a small array; MATLAB's pairs of real and imaginary part become complex numbers.

        Raises
        ------
        ContractError
            If it is too large, is none, or is damaged.
        """
        dataset, self.is_used = self._dataset(key), True
        with reading(self.path, f"'{key}'"):
            check_size(self.path, key, dataset.shape or (), dataset.dtype)
            values = np.asarray(dataset[()])
        names = values.dtype.names
        return values[names[0]] + 1j * values[names[1]] if names is not None and len(names) == 2 else values

    def text(self, key: str) -> str:
        """Read a text, "" where there is none."""
        if key not in self:
            return ""
        value = self.array(key).ravel()[:1]
        return "".join(part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in value)

    def frames(self, key: str, last: bool = False) -> LazyArray:
        """Open an array that is read in blocks of its first axis, or of its last one."""
        with reading(self.path, f"'{key}'"):
            dataset, self.is_used = self._dataset(key), True
            return _Dataset(self.path, key, dataset)

    def attribute(self, key: str, name: str) -> Any:
        """Attribute of an array, or of the file (""); None if there is none."""
        item = self._root if not key else self._find(key)
        with reading(self.path, f"attribute '{name}' of '{key or '/'}'"):
            if item is None or name not in item.attrs:
                return None
            self._check_parts(item.attrs.get_id(name).dtype, f"attribute '{name}' of '{key or '/'}'")
            return item.attrs[name]

    def close(self) -> None:
        """Close the file, and those that it links to."""
        for file in self._files.values():
            file.close()


def _is_available(code: int) -> bool:
    """Tell whether HDF5 can undo a compression, if need be with hdf5plugin."""
    if not h5py.h5z.filter_avail(code):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401
    return bool(h5py.h5z.filter_avail(code))


class _Dataset:
    """A dataset whose errors name file and key."""

    def __init__(self, path: Path, key: str, dataset: h5py.Dataset):
        self._path, self._key, self._dataset = path, key, dataset
        self.shape, self.dtype = tuple(dataset.shape or ()), dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with reading(self._path, f"'{self._key}'"):
            return np.asarray(self._dataset[index])
