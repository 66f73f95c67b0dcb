"""Image files written byte by byte, so that readers are held against the formats' definitions and not against another reader."""

import struct
import zlib

import numpy as np


def png(values, bits, palette=None, clear=None, alpha=None):
    """A PNG: ``values`` (H,W) or (H,W,3) below 2**bits, ``alpha`` (H,W) likewise; ``clear`` is the body of a chunk tRNS."""
    values = np.asarray(values)
    channels = values if values.ndim == 3 else values[..., None]
    if alpha is not None:
        channels = np.concatenate([channels, np.asarray(alpha)[..., None]], axis=2)
    kind = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[channels.shape[2]]
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + packed(row.reshape(1, -1), bits, ">") for row in channels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", np.asarray(palette, np.uint8).tobytes()))
    if clear is not None:
        chunks.append((b"tRNS", clear))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def packed(rows, bits, order):
    """Rows of values, each packed to whole bytes: ``bits`` from 1 to 32, or a floating-point array as it is."""
    rows = np.asarray(rows)
    if rows.dtype.kind == "f":
        return rows.astype(f"{order}f{rows.dtype.itemsize}").tobytes()
    if bits >= 8:
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    digits = (rows[..., None].astype(np.uint8) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1), axis=1).tobytes()


def lzw(data):
    """LZW of TIFF in its simplest form: every byte is a code of 9 bits, and the table is cleared before it grows."""
    codes = []
    for place, byte in enumerate(data):
        codes += [256] * (place % 200 == 0) + [byte]
    digits = np.array([[code >> shift & 1 for shift in range(8, -1, -1)] for code in [*codes, 257]], np.uint8)
    return np.packbits(digits.ravel()).tobytes()


COMPRESSIONS = {1: bytes, 5: lzw, 8: zlib.compress}


def tiff(
    values,
    bits,
    *,
    order="<",
    photometric=1,
    tiled=False,
    planar=False,
    compression=1,
    orientation=1,
    alpha=False,
    palette=None,
    extra=None,
    tags=(),
):
    """A TIFF of one page: ``values`` (H,W,C); ``alpha``: the last channel is alpha; ``tags`` are (code, kind, values)."""
    values = np.asarray(values)
    height, width, channels = values.shape
    blocks = [values[..., c : c + 1] for c in range(channels)] if planar else [values]
    pieces = []
    for block in blocks:
        if tiled:
            grown = np.zeros((-(-height // 16) * 16, -(-width // 16) * 16, block.shape[2]), values.dtype)
            grown[:height, :width] = block
            for y in range(0, grown.shape[0], 16):
                pieces += [grown[y : y + 16, x : x + 16] for x in range(0, grown.shape[1], 16)]
        else:
            pieces += [block[y : y + 5] for y in range(0, height, 5)]
    data = [COMPRESSIONS[compression](packed(piece.reshape(len(piece), -1), bits, order)) for piece in pieces]
    kind = 3 if values.dtype.kind == "f" else 1
    entries = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * channels),
        (259, "H", [compression]),
        (262, "H", [photometric]),
        (274, "H", [orientation]),
        (277, "H", [channels]),
        (284, "H", [2 if planar else 1]),
        (339, "H", [kind] * channels),
        *tags,
    ]
    if alpha or extra is not None:
        entries.append((338, "H", [2] if extra is None else extra))
    if palette is not None:
        colours = np.asarray(palette, np.int64)
        entries.append((320, "H", (colours.T.ravel() * 257).tolist()))
    if tiled:
        entries += [(322, "I", [16]), (323, "I", [16]), (324, "I", None), (325, "I", [len(d) for d in data])]
    else:
        entries += [(278, "I", [5]), (273, "I", None), (279, "I", [len(d) for d in data])]
    entries.sort()
    start = 8 + 2 + 12 * len(entries) + 4
    sizes = {"B": 1, "s": 1, "H": 2, "I": 4, "d": 8}
    types = {"B": 1, "s": 2, "H": 3, "I": 4, "d": 12}
    at = start + sum(size for _, k, v in entries if (size := sizes[k] * (len(data) if v is None else len(v))) > 4)
    offsets = [at + sum(len(d) for d in data[:n]) for n in range(len(data))]
    head, body = b"", b""
    for code, k, found in entries:
        found = offsets if found is None else found
        raw = bytes(found) if k == "s" else struct.pack(f"{order}{len(found)}{k}", *found)
        if len(raw) > 4:
            place = struct.pack(f"{order}I", start + len(body))
            body += raw
        else:
            place = raw.ljust(4, b"\0")
        head += struct.pack(f"{order}HHI", code, types[k], len(found)) + place
    mark = b"II" if order == "<" else b"MM"
    begin = mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(entries))
    return begin + head + struct.pack(f"{order}I", 0) + body + b"".join(data)
