"""Images as they are received: the fields of a serialized message. The pixels are decoded elsewhere, see `pixels`."""

from __future__ import annotations

import struct
from dataclasses import dataclass


class ConversionError(ValueError):
    """A message that cannot be used; the text names the field and what was expected."""


@dataclass(frozen=True)
class RawImage:
    """The fields of a `sensor_msgs/Image` that say what its pixels are."""

    height: int
    width: int
    encoding: str
    step: int
    data: memoryview


@dataclass(frozen=True)
class CompressedImage:
    """The fields of a `sensor_msgs/CompressedImage` that say what its pixels are."""

    format: str
    data: memoryview


@dataclass(frozen=True)
class SerializedImage:
    """An image as it was received. Most are never decoded, because a newer one arrives before the next inference.

    Attributes:
        raw: the message in CDR.
        is_compressed: whether it is a CompressedImage.
    """

    raw: bytes | memoryview
    is_compressed: bool

    def message(self) -> RawImage | CompressedImage:
        """Return the message's fields; its data is not copied.

        Raises:
            ConversionError: the bytes end before the message does.
        """
        try:
            fields = _Fields(self.raw)
            fields.number(), fields.number(), fields.data()  # the header's stamp and frame
            if self.is_compressed:
                return CompressedImage(fields.text(), fields.data())
            height, width, encoding = fields.number(), fields.number(), fields.text()
            fields.byte()  # is_bigendian, which does not matter for bytes
            return RawImage(height, width, encoding, fields.number(), fields.data())
        except (struct.error, IndexError) as error:
            raise ConversionError(f"image message of {len(self.raw)} bytes is cut off or damaged") from error


class _Fields:
    """Reads the fields of a message in CDR in their order (OMG, DDS-XTypes 1.3, 7.4)."""

    def __init__(self, raw: bytes | memoryview) -> None:
        self._raw = memoryview(raw)
        self._number = struct.Struct("<I" if self._raw[1] & 1 else ">I")
        self._position = 4  # after the four bytes that say how the rest is encoded

    def number(self) -> int:
        """Return a number of four bytes, aligned to four."""
        start = (self._position + 3) // 4 * 4
        self._position = start + 4
        return self._number.unpack_from(self._raw, start)[0]

    def byte(self) -> int:
        """Return one byte."""
        self._position += 1
        return self._raw[self._position - 1]

    def data(self) -> memoryview:
        """Return a sequence of bytes."""
        size = self.number()
        start, self._position = self._position, self._position + size
        if self._position > len(self._raw):
            raise IndexError
        return self._raw[start : self._position]

    def text(self) -> str:
        """Return a string, which ends with a zero byte."""
        return bytes(self.data()).rstrip(b"\0").decode(errors="replace")
