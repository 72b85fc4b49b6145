"""What came of each picture, one line of JSON each: the manifest, by which a batch goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from ..errors import ConfigError, ImageError
from ..files import atomic_write, read_bytes

NAME = "manifest.jsonl"


@dataclass(frozen=True)
class Record:
    """What came of one picture.

    Attributes:
        source: the picture's file.
        output: the file that was made, relative to the manifest.
        settings: name of the settings, see `running.settings_key`.
        digest: SHA-256 of the picture's file, hexadecimal; empty where it could not be read.
        width: pixels.
        height: pixels.
        size: bytes of the output.
        bpp: bits of the output per pixel.
        psnr: of the decoded picture, dB.
        seconds: that it took.
        attempts: how often it was tried.
        error: why there is no output, in one line; None where there is one.
    """

    source: str
    output: str
    settings: str
    digest: str = ""
    width: int = 0
    height: int = 0
    size: int = 0
    bpp: float = 0.0
    psnr: float = 0.0
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None


class Manifest:
    """The records of a folder, by output; every one is kept on the disk as soon as it is there.

    Args:
        folder: of the outputs.
        settings: of this batch.

    Raises:
        ConfigError: there are records of other settings.
        ImageError: it cannot be read or written.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.path = folder / NAME
        self.records: dict[str, Record] = {}
        self._file: IO[str] | None = None
        if self.path.exists():
            self.records = {record.output: record for record in _read(self.path)}
        others = {record.settings for record in self.records.values()} - {settings}
        if others:
            raise ConfigError(
                f"{self.path}: expected records of these settings, found others; take another folder, or --overwrite"
            )

    def __enter__(self) -> Manifest:
        try:
            self._file = open(self.path, "a", encoding="utf-8")  # closed on exit
        except OSError as error:
            raise ImageError(f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self.records:
            atomic_write(self.path, _text(self.records.values()))  # one line for each, in order

    def add(self, record: Record) -> None:
        """Keep a record in place of an earlier one of the same output."""
        assert self._file is not None, "expected inside of with"
        self.records[record.output] = record
        self._file.write(json.dumps(asdict(record)) + "\n")
        self._file.flush()

    def has(self, output: str, digest: str, folder: Path) -> bool:
        """Whether an output was made of a picture with this digest, and is still there."""
        record = self.records.get(output)
        if record is None or record.error is not None or record.digest != digest:
            return False
        path = folder / output
        return path.is_file() and path.stat().st_size == record.size


def _read(path: Path) -> list[Record]:
    """Records of a manifest; what an interruption left of the last line is passed over."""
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    names = {field.name for field in fields(Record)}
    records = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            records.append(Record(**{name: value for name, value in values.items() if name in names}))
        except (ValueError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise ConfigError(f"{path}, line {number}: expected a record, found {line[:40]!r}") from error
    return records


def _text(records: Iterable[Record]) -> bytes:
    ordered = sorted(records, key=lambda record: record.output)
    return "".join(json.dumps(asdict(record)) + "\n" for record in ordered).encode()
