"""What came of each picture, one line of JSON each: the manifest, by which a batch goes on where it stopped."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import ConfigError, ImageError
from ..files import atomic_write
from . import places
from .places import Place

NAME = "manifest.jsonl"
TABLE = "manifest.parquet"
SENT_EVERY = 30.0
"""Seconds between two writings of a manifest that is not on this machine; more where that takes long."""
SHARE_OF_TIME = 0.05
"""That writing it may take at most."""


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
        psnr: of the decoded picture, dB; None where there is nothing to compare with.
        seconds: that it took.
        attempts: how often it was tried.
        error: why there is no output, in one line; None where there is one.
        beside: another file that was made with the output, relative to the manifest; empty where there is none.
    """

    source: str
    output: str
    settings: str
    digest: str = ""
    width: int = 0
    height: int = 0
    size: int = 0
    bpp: float = 0.0
    psnr: float | None = None
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None
    beside: str = ""


class Manifest:
    """The records of a folder, by output.

    On this machine every record is on the disk as soon as it is there. Elsewhere files have no end to write at: the
    whole manifest is sent every half minute and when the batch ends, errors and Ctrl-C included. A process that is
    killed loses the records since then, though none of its outputs: those pictures are done again, to the same bytes.
    Where it cannot be sent, the next time may do; only the last one must. Two batches at once into one folder do the
    same work twice, and the manifest is the last one's.

    At the end `manifest.parquet` is written beside it, with the same records, where the package pyarrow is installed.

    Args:
        folder: of the outputs; on this machine it is there.
        settings: of this batch.

    Raises:
        ConfigError: there are records of other settings.
        ImageError: it cannot be read or written.
    """

    def __init__(self, folder: Place, settings: str) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.records: dict[str, Record] = {}
        self._file: IO[str] | None = None
        self._sizes: Mapping[PurePosixPath, int | None] = {}
        self._send_at = 0.0
        found = places.read_if_there(self.path)
        if found is not None:
            self.records = {record.output: record for record in _parse(found, self.path)}
        others = {record.settings for record in self.records.values()} - {settings}
        if others:
            raise ConfigError(
                f"{self.path}: expected records of these settings, found others; take another folder, or --overwrite"
            )

    def __enter__(self) -> Manifest:
        if isinstance(self.path, Path):
            try:
                self._file = open(self.path, "a", encoding="utf-8")  # closed on exit
            except OSError as error:
                raise ImageError(f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}") from error
        else:
            self._send()  # what cannot be written is said before the work
            self._sizes = places.files_below(self.folder) if not isinstance(self.folder, Path) else {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # of what could not be written before; all of it is written now
                self._file.close()
        if isinstance(self.path, Path):
            if self.records:
                atomic_write(self.path, _text(self.records.values()))  # one line for each, in order
        else:
            self._send()
        table = table_bytes(self.records.values()) if self.records else None
        if table is not None:
            places.write(self.folder / TABLE, table)

    def add(self, record: Record) -> None:
        """Keep a record in place of an earlier one of the same output."""
        self.records[record.output] = record
        if self._file is None:
            if time.monotonic() >= self._send_at:
                try:
                    self._send()
                except ImageError:
                    self._send_at = time.monotonic() + SENT_EVERY
            return
        try:
            self._file.write(json.dumps(asdict(record)) + "\n")
            self._file.flush()
        except OSError as error:
            raise ImageError(f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}") from error

    def done(self, output: str) -> Record | None:
        """The record of an output that is still there, whole."""
        record = self.records.get(output)
        if record is None or record.error is not None:
            return None
        if self._size(output) != record.size or (record.beside and self._size(record.beside) is None):
            return None
        return record

    def _size(self, name: str) -> int | None:
        if not isinstance(self.folder, Path):
            return self._sizes.get(PurePosixPath(name))
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def _send(self) -> None:
        began = time.monotonic()
        places.write(self.path, _text(self.records.values()))
        now = time.monotonic()
        self._send_at = now + max(SENT_EVERY, (now - began) / SHARE_OF_TIME)


def _parse(data: bytes, path: Place) -> list[Record]:
    """Records of a manifest; what an interruption left of the last line is passed over."""
    lines = data.decode("utf-8", "replace").splitlines()
    names = {field.name for field in fields(Record)}
    records = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            record = Record(**{name: value for name, value in values.items() if name in names})
            _check_types(record)
            records.append(record)
        except (ValueError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise ConfigError(f"{path}, line {number}: expected a record, found {line[:40]!r}") from error
    return records


def _check_types(record: Record) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (float, int), "None": type(None)}
    for field in fields(Record):
        value = getattr(record, field.name)
        if not any(isinstance(value, kinds[kind]) for kind in str(field.type).split(" | ")):
            raise TypeError(field.name)


def _text(records: Iterable[Record]) -> bytes:
    return "".join(json.dumps(asdict(record)) + "\n" for record in in_order(records)).encode()


def table_bytes(records: Iterable[Record]) -> bytes | None:
    """The records as a Parquet file, one typed column for each field; None without the package pyarrow."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        return None
    kinds = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float64()}
    columns = []
    for field in fields(Record):
        kind, mark, _ = str(field.type).partition(" | ")
        columns.append(arrow.field(field.name, kinds[kind], nullable=bool(mark)))
    table = arrow.Table.from_pylist([asdict(record) for record in in_order(records)], schema=arrow.schema(columns))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records by their outputs' names."""
    return sorted(records, key=lambda record: record.output)
