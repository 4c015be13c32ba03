"""Damage to a file: random bytes, and what its kind of file allows. One generator decides everything."""

from dataclasses import dataclass

from tests.fuzz.damage_hdf5 import edit_hdf5
from tests.fuzz.damage_images import edit_png, edit_tiff
from tests.fuzz.damage_text import edit_json, edit_table, edit_yaml
from tests.fuzz.damage_zip import edit_npy_file, edit_zip

BYTES_SHARE = 0.4
"""Share of inputs whose bytes are damaged whatever they mean; the others stay valid files of their kind."""
EDITORS = {
    ".npz": edit_zip,
    ".keras": edit_zip,
    ".npy": edit_npy_file,
    ".json": edit_json,
    ".yaml": edit_yaml,
    ".csv": edit_table,
    ".tsv": edit_table,
    ".txt": edit_table,
    ".h5": edit_hdf5,
    ".png": edit_png,
    ".tif": edit_tiff,
}
"""Suffix of a file -> what edits its content."""


@dataclass(frozen=True)
class Damage:
    """A damaged file."""

    content: bytes
    how: str
    """What was done, in words."""
    by_bytes: bool
    """Whether bytes were damaged without regard to what they mean: checksums in the file then no longer fit."""


def damage(content, suffix, rng):
    """Return a file's content with one damage, at times two."""
    edit = EDITORS.get(suffix)
    if edit is None or rng.random() < BYTES_SHARE:
        changed, how = damage_bytes(content, rng)
        return Damage(changed, how, True)
    changed, how = edit(content, rng)
    if changed == content or rng.random() < 0.1:
        changed, more = damage_bytes(changed, rng)
        how = f"{how}; {more}"
    return Damage(changed, how, False)


def damage_bytes(content, rng):
    """Flip bits, cut, overwrite, duplicate or exchange ranges of bytes."""
    kinds = [flip_bits] * 6 + [cut, cut, zero, overwrite, duplicate, remove, exchange, append]
    while True:
        kind = kinds[rng.integers(len(kinds))]
        changed = bytes(kind(bytearray(content), rng))
        if changed != content:
            return changed, kind.__name__


def _range(content, rng):
    """A short range in most cases, a long one in some."""
    longest = min(len(content), 64 if rng.random() < 0.8 else len(content))
    length = int(rng.integers(1, longest + 1)) if longest else 0
    start = int(rng.integers(0, len(content) - length + 1))
    return start, start + length


def flip_bits(content, rng):
    for place in rng.integers(0, 8 * len(content) if content else 0, rng.integers(1, 9)) if content else ():
        content[place // 8] ^= 1 << int(place % 8)
    return content


def cut(content, rng):
    return content[: rng.integers(0, max(len(content), 1))]


def zero(content, rng):
    start, stop = _range(content, rng)
    content[start:stop] = bytes(stop - start)
    return content


def overwrite(content, rng):
    start, stop = _range(content, rng)
    content[start:stop] = rng.bytes(stop - start)
    return content


def duplicate(content, rng):
    start, stop = _range(content, rng)
    content[stop:stop] = content[start:stop]
    return content


def remove(content, rng):
    start, stop = _range(content, rng)
    del content[start:stop]
    return content


def exchange(content, rng):
    start, stop = _range(content, rng)
    other = int(rng.integers(0, len(content) - (stop - start) + 1))
    first, second = content[start:stop], content[other : other + stop - start]
    content[start:stop] = second
    content[other : other + stop - start] = first
    return content


def append(content, rng):
    return content + rng.bytes(int(rng.integers(1, 64)))
