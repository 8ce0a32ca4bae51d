"""Zstandard: from the standard library since Python 3.14, else its backport."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError, decompress, open
else:
    from backports.zstd import ZstdDecompressor, ZstdError, decompress, open

__all__ = ["ZstdDecompressor", "ZstdError", "decompress", "open"]
