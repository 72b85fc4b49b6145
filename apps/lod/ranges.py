"""Which bytes of a file an HTTP request asks for, and on which conditions (RFC 9110, sections 8.8, 13 and 14).

Whatever a header holds, nothing here raises: what is malformed counts as if it were not there, as the RFC wants it.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping, Sequence
from email.utils import parsedate_tz

MAX_RANGES = 200
"""A request for more of them gets the whole file."""

_SPEC = re.compile(r"(\d*)-(\d*)", re.ASCII)
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_FAR = 1 << 62
"""Beyond the end of every file; stands for numbers of too many digits."""


def parse_range(header: str | None, size: int) -> list[tuple[int, int]] | None:
    """The parts of a file that a Range header asks for.

    Args:
        header: its value, or None.
        size: of the file, bytes.

    Returns:
        None if the whole file is to be sent: no header, another unit, a malformed list, or more than `MAX_RANGES`. Else
        (first byte, byte after the last) of what can be satisfied, in the order asked for; those that overlap are
        joined, so that together they are never longer than the file. Empty if none can be satisfied.
    """
    unit, mark, text = (header or "").partition("=")
    if not mark or unit.strip().lower() != "bytes":
        return None
    specs = [spec.strip(" \t") for spec in text.split(",")]
    matches = [_SPEC.fullmatch(spec) for spec in specs if spec]
    if not 1 <= len(matches) <= MAX_RANGES:
        return None
    found = []
    for match in matches:
        if match is None or match[0] == "-":
            return None
        first, last = _number(match[1]), _number(match[2])
        if first is None:
            start, stop = max(0, size - (last or 0)), size
        elif last is not None and last < first:
            return None
        else:
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            found.append((start, stop))
    return _joined(found)


def part_head(start: int, stop: int, size: int, media_type: str, boundary: str) -> bytes:
    """What stands before one part of a ``multipart/byteranges`` body (section 14.6), from the part before on."""
    lines = (
        "",
        f"--{boundary}",
        f"Content-Type: {media_type}",
        f"Content-Range: bytes {start}-{stop - 1}/{size}",
        "",
        "",
    )
    return "\r\n".join(lines).encode("latin-1")


def failed_precondition(headers: Mapping[str, str], etag: str, modified: float) -> int | None:
    """What the preconditions of a GET or HEAD come to (section 13.2.2).

    Args:
        headers: of the request; names are looked up in lower case.
        etag: of the file, strong, with its quotation marks.
        modified: when it was last changed, seconds since 1970; compared in whole seconds.

    Returns:
        412 or 304, or None if the file is to be sent.
    """
    if (wanted := headers.get("if-match")) is not None:
        if wanted.strip() != "*" and etag not in _TAG.findall(wanted):
            return 412
    elif (limit := _seconds(headers.get("if-unmodified-since"))) is not None and int(modified) > limit:
        return 412
    if (known := headers.get("if-none-match")) is not None:
        tags = [tag.removeprefix("W/") for tag in _TAG.findall(known)]
        return 304 if known.strip() == "*" or etag in tags else None
    since = _seconds(headers.get("if-modified-since"))
    return 304 if since is not None and int(modified) <= since else None


def range_counts(header: str | None, etag: str, modified: float) -> bool:
    """Whether a Range header holds beside an If-Range header (section 13.1.5): the very tag or the very date."""
    if header is None:
        return True
    value = header.strip()
    return value == etag if '"' in value else _seconds(value) == int(modified)


def _number(digits: str) -> int | None:
    if not digits:
        return None
    kept = digits.lstrip("0") or "0"
    return int(kept) if len(kept) < 19 else _FAR


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges without overlap, each where the first of those it is made of stood."""
    joined: list[tuple[int, int, int]] = []
    for start, stop, place in sorted((start, stop, place) for place, (start, stop) in enumerate(ranges)):
        if joined and start < joined[-1][1]:
            before = joined[-1]
            joined[-1] = before[0], max(before[1], stop), min(before[2], place)
        else:
            joined.append((start, stop, place))
    return [(start, stop) for start, stop, _ in sorted(joined, key=lambda part: part[2])]


def _seconds(date: str | None) -> int | None:
    """An HTTP date as seconds since 1970; None if it is none."""
    if not date:
        return None
    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else timegm(parsed[:6]) - (parsed[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
