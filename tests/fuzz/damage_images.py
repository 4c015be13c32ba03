"""Damage to PNG and TIFF files that stay readable up to what was edited."""

import struct
import zlib

SIZES = (0, 1, 3, 255, 13_000, 65_535, 2**31 - 1, 2**32 - 1)


def edit_png(content, rng):
    """Edit, remove or repeat a chunk, whose checksum fits afterwards."""
    chunks = _chunks(content)
    number = int(rng.integers(len(chunks)))
    kind, values = chunks[number]
    choice = rng.integers(5)
    if choice == 0:
        del chunks[number]
        how = "removed"
    elif choice == 1:
        chunks.insert(number, (kind, values))
        how = "repeated"
    elif choice == 2 or not values:
        size = SIZES[rng.integers(len(SIZES))]
        number = next((place for place, (name, _) in enumerate(chunks) if name == b"IHDR"), number)
        kind, values = chunks[number]
        offset = 4 * int(rng.integers(2))
        chunks[number] = kind, values[:offset] + struct.pack(">I", size) + values[offset + 4 :]
        how = f"size {size}"
    else:
        place = int(rng.integers(len(values)))
        chunks[number] = kind, values[:place] + rng.bytes(1) + values[place + 1 :]
        how = f"byte {place}"
    joined = b"".join(
        struct.pack(">I", len(values)) + kind + values + struct.pack(">I", zlib.crc32(kind + values))
        for kind, values in chunks
    )
    return content[:8] + joined, f"{kind!r}: {how}"


def _chunks(content):
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    return chunks


def edit_tiff(content, rng):
    """Edit tag, type, count or value of an entry of the first directory (little-endian)."""
    changed = bytearray(content)
    (place,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[place : place + 2])
    entry = place + 2 + 12 * int(rng.integers(count))
    (tag,) = struct.unpack("<H", content[entry : entry + 2])
    offset, form = ((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I"), (8, "<I"))[rng.integers(6)]
    value = SIZES[rng.integers(len(SIZES))] % (65536 if form == "<H" else 2**32)
    changed[entry + offset : entry + offset + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed), f"tag {tag}: {value} at byte {offset}"
