"""Measured points, one JSON line each, so that a run that was interrupted goes on where it stopped.

They lie in a work folder outside the sources: ``points.jsonl``, and ``files/`` with what ours wrote. A point is found
again by the content of its picture, the codec's identity and the rung; whatever changes makes another point.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """One file of one picture.

    Attributes:
        picture: SHA-256 of the picture's file, the first 16 digits.
        codec: the codec's key.
        identity: the codec with its options and version.
        rung: what was asked for: a quality, a ratio, or bits per pixel.
        bytes: the size of the file, all of it.
        bpp: bits per pixel, of the file.
        psnr: dB, over all channels, both pictures in 8 bits.
        ms_ssim: at most 1; None where it was not measured, far from the rates of interest.
        encode_s: seconds.
        extra: what only some codecs tell.
    """

    picture: str
    codec: str
    identity: str
    rung: float
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s: float
    extra: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str, float]:
        return self.picture, self.codec, self.identity, self.rung


class Store:
    """The points of a work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self._path = folder / "points.jsonl"
        self._cut_line = False
        self._points: dict[tuple[str, str, str, float], Point] = {}
        for line in self._lines():
            try:
                point = Point(**json.loads(line))
            except (ValueError, TypeError):  # the last line of a run that was killed, or of an older form
                continue
            self._keep(point)

    def find(self, picture: str, codec: str, identity: str, rung: float) -> Point | None:
        return self._points.get((picture, codec, identity, rung))

    def all(self, picture: str, codec: str, identity: str | None = None) -> list[Point]:
        """The points of a codec for a picture, the newest last; of every identity unless one is given."""
        return [
            point
            for point in self._points.values()
            if (point.picture, point.codec) == (picture, codec) and identity in (None, point.identity)
        ]

    def add(self, point: Point) -> None:
        """Keep a point; a later one with the same key takes its place."""
        self._keep(point)
        with self._path.open("a", encoding="utf-8") as file:
            if self._cut_line:
                file.write("\n")
                self._cut_line = False
            file.write(json.dumps(asdict(point)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _keep(self, point: Point) -> None:
        self._points.pop(point.key, None)
        self._points[point.key] = point

    def _lines(self) -> list[str]:
        text = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        self._cut_line = bool(text) and not text.endswith("\n")
        return text.splitlines()


def digest(path: Path) -> str:
    """SHA-256 of a file, the first 16 digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
