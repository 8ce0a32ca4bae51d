"""Zstandard: from the standard library since Python 3.14, else its backport."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError, open
else:
    from backports.zstd import ZstdDecompressor, ZstdError, open

__all__ = ["ZstdDecompressor", "ZstdError", "decompress", "open"]


def decompress(data: bytes | memoryview, max_size: int) -> bytes:
    """Return what was compressed.

    Raises:
        ZstdError: the data is damaged or cut off, or is more than `max_size` bytes.
    """
    decompressor = ZstdDecompressor()
    content = decompressor.decompress(data, max_size + 1)
    if len(content) > max_size:
        raise ZstdError(f"more than {max_size} bytes")
    if not decompressor.eof:
        raise ZstdError("it is cut off")
    return content
