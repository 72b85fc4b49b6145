"""Fields of a ``.gsimg`` file <-> bytes: fixed widths and varints (docs/format.md, section 1)."""

from __future__ import annotations

import struct

import google_crc32c

from ..errors import ChecksumError, FormatError

CHECKSUM_BYTES = 4

_LONGEST = {32: 5, 48: 7}
"""Bytes of the longest varint by bits of its value."""


def varint(value: int) -> bytes:
    """Unsigned LEB128, shortest form."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(0x80 | value & 0x7F)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def read_varint(data: bytes | bytearray, at: int, end: int, *, bits: int = 32, where: str) -> tuple[int, int] | None:
    """The inverse of `varint`.

    Args:
        data: bytes that hold one at ``at``.
        at: where it starts.
        end: where the bytes end that may belong to it.
        bits: values below 2 to this are allowed, 32 or 48.
        where: what an error calls the place.

    Returns:
        The value and the place of the first byte after it; None if ``end`` comes first.

    Raises:
        FormatError: it is too large, or not in its shortest form.
    """
    value = 0
    for k in range(_LONGEST[bits]):
        if at + k >= end:
            return None
        byte = data[at + k]
        value |= (byte & 0x7F) << 7 * k
        if byte < 0x80:
            if byte == 0 and k:
                raise FormatError(f"{where}: expected a varint in its shortest form, found a last byte of zero")
            if value >> bits:
                break
            return value, at + k + 1
    raise FormatError(f"{where}: expected a varint below 2^{bits}, found a larger one")


class Fields:
    """Takes one field after another off bytes that are all there; a field that they do not hold is a `FormatError`."""

    def __init__(self, data: bytes, where: str, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self.where = where
        self._end = len(data) if end is None else end
        self.at = start

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return self._end - self.at

    def u8(self, name: str) -> int:
        """One byte."""
        return self._data[self._pass(name, 1)]

    def u16(self, name: str) -> int:
        """Two bytes, little-endian."""
        return int(struct.unpack_from("<H", self._data, self._pass(name, 2))[0])

    def u32(self, name: str) -> int:
        """Four bytes, little-endian."""
        return int(struct.unpack_from("<I", self._data, self._pass(name, 4))[0])

    def varint(self, name: str, *, bits: int = 32) -> int:
        """A varint below 2 to ``bits``."""
        found = read_varint(self._data, self.at, self._end, bits=bits, where=f"{self.where}: {name}")
        if found is None:
            raise FormatError(f"{self.where}: {name}: expected a varint, found the end after {self.left} bytes")
        value, self.at = found
        return value

    def take(self, name: str, length: int) -> bytes:
        """So many bytes."""
        start = self._pass(name, length)
        return self._data[start : self.at]

    def part(self, name: str, length: int, where: str) -> Fields:
        """The fields of the next ``length`` bytes."""
        start = self._pass(name, length)
        return Fields(self._data, where, start, self.at)

    def finish(self, *, newer: bool) -> None:
        """Refuse bytes that are left; those of a newer minor version are passed over."""
        if self.left and not newer:
            raise FormatError(f"{self.where}: length: expected the end of its fields, found {self.left:,} more bytes")
        self.at = self._end

    def _pass(self, name: str, length: int) -> int:
        if length > self.left:
            raise FormatError(f"{self.where}: {name}: expected {length:,} bytes, found {self.left:,} up to its end")
        start, self.at = self.at, self.at + length
        return start


def check_sum(where: str, expected: int, found: int) -> None:
    """Compare two checksums.

    Raises:
        ChecksumError: they differ.
    """
    if found != expected:
        raise ChecksumError(f"{where}: CRC-32C: expected {expected:08X}, found {found:08X}: the bytes were altered")


def checksum(data: bytes, before: int = 0) -> int:
    """CRC-32C of bytes, going on from that of those ``before`` them."""
    return int(google_crc32c.extend(before, data))
