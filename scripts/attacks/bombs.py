# SPDX-License-Identifier: Apache-2.0
"""Bombs: small files that declare, or unfold into, a great deal are refused within five seconds."""

import random
import struct
import time
import zipfile
import zlib
from pathlib import Path


def bomb(chance: random.Random, folder: Path) -> str | None:
    """Read a bomb; it is refused within five seconds."""
    from learn2compress.compression.teacher.formats import describe_file
    from learn2compress.data.sources.npz import list_arrays
    from learn2compress.modalities.image.pixels import decode_image

    kind = chance.choice(["keras", "deep", "npz", "picture"])
    began = time.monotonic()
    path = folder / kind
    size = chance.randrange(10**5, 10**9)
    if kind in ("keras", "deep"):
        config = b"[" * (size // 1000) if kind == "deep" else b"{}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.json", b'{"keras_version": "3.0.0"}')
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", bytes(0 if kind == "deep" else 70_000_000 + size // 10))
    elif kind == "npz":
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, {size}), }}".encode().ljust(117) + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            archive.writestr("train_images.npy", raw)
    else:
        path.write_bytes(_png(20_000 + size % 10_000))
    written = time.monotonic()
    try:
        {"npz": lambda: list_arrays(str(path)), "picture": lambda: decode_image(path)}.get(
            kind, lambda: describe_file(path)
        )()
    except ValueError as error:
        told = str(error)
    except Exception as error:
        from learn2compress.schemas.errors import Learn2CompressError

        if not isinstance(error, Learn2CompressError):
            raise
        told = str(error)
    else:
        return f"{kind} of {size}: it was accepted"
    seconds = time.monotonic() - written
    if seconds > 5 or "\n" in told:
        return f"{kind} of {size}: {seconds:.1f} s (written in {written - began:.1f} s): {told[:200]}"
    return None


def _png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
