"""A ``.gsimg`` file read as its bytes come (docs/format.md, section 12).

```
feed ─> start ─> head ─> pages, if any ─> header, info, chunks
                  └─> payload ─ checksum ─ BlockDecoder of its block ─> symbols ─ gaussians() ─> Gaussians2D
```

Every check is made as soon as its bytes are there, and memory is taken in proportion to the bytes that arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from ..errors import ConfigError, FormatError, ShapeError, TruncatedError
from ..gaussians import Gaussians2D
from ..image import MAX_PIXELS, PictureInfo
from .blocks import Runs, touches
from .codings import BlockDecoder, Coding, check_chunk, check_coding, find
from .fields import check_sum, checksum
from .format import START_BYTES, Head, Header, check_start, head_size, read_head
from .table import KIND_GAUSSIANS, KIND_SPAN, Chunk, check_total, read_page

_LEVELLED = (KIND_GAUSSIANS, KIND_SPAN)
_PIECE = 1 << 20
"""Bytes read from a file at a time: a file may claim any length."""


class Decoder:
    """Takes the bytes of a file in pieces of any size.

    Attributes:
        head: what stands before the payloads; None until it is complete, with those of its pages that are wanted.
        info: what is needed to give the channels back as files; None until then, and where the file does not say.
        quantizer: how symbols become numbers; None until then.
        received: bytes taken so far, those passed over included.
        attribute_bits: bits of the chunks that were decoded, by attribute.
    """

    def __init__(
        self,
        *,
        max_pixels: int = MAX_PIXELS,
        name: str = "bytes",
        pages: Callable[[Head], Iterable[int]] | None = None,
    ) -> None:
        """Wait for the first byte.

        Args:
            max_pixels: refuse a canvas of more pixels.
            name: what an error calls the file.
            pages: the numbers of those that are wanted, from a head none of whose pages was read, as `needed_pages`
                gives them; chunks on others are passed over. None reads all.
        """
        self.head: Head | None = None
        self.info: PictureInfo | None = None
        self.quantizer: Any = None
        self.received = 0
        self.attribute_bits: dict[str, float] = {}
        self._max_pixels = max_pixels
        self._name = name
        self._pages = pages
        self._listed: Head | None = None  # as its own bytes say, before its pages
        self._read: dict[int, tuple[Chunk, ...]] = {}  # the chunks of each page
        self._count = 0  # Gaussians on them
        self._barred: frozenset[int] = frozenset()
        self._coding: Coding | None = None
        self._selected: frozenset[int] | None = None
        self._coming: tuple[Chunk, ...] = ()  # after the head: the entries of its pages, then the chunks
        self._next = 0  # number of the one whose bytes come
        self._taken = 0  # bytes of it that came
        self._checksum = 0
        self._bytes = bytearray()  # of the head, then of that page or chunk if it is selected
        self._symbols: list[Any] = []
        self._decoders: dict[int, BlockDecoder] = {}
        self._payloads: dict[int, list[tuple[bytes, int]]] = {}
        self._failure: FormatError | None = None

    @property
    def header(self) -> Header | None:
        """What holds for the whole picture; None until the head is complete."""
        return None if self.head is None else self.head.header

    @property
    def chunks(self) -> tuple[Chunk, ...] | None:
        """The chunk table, kinds unknown to this program included; None until the head is complete."""
        return None if self.head is None else self.head.chunks

    @property
    def complete(self) -> bool:
        """Whether the whole file was taken."""
        return self.head is not None and self._next == len(self.head.chunks)

    @property
    def needed(self) -> int:
        """Bytes that are missing for the next page or chunk, or for the head as far as it is known; 0 at the end."""
        if not self._coming:
            size = head_size(self._bytes, self._name)
            return (
                max(START_BYTES + 1, len(self._bytes) + 1) - len(self._bytes) if size is None else size - self.received
            )
        return 0 if self.complete else self._coming[self._next].length - self._taken

    @property
    def run(self) -> int:
        """Bytes that are missing up to what may be passed over next: what can be read in one piece."""
        if not self._coming or self.complete:
            return self.needed
        end = self._next + 1
        while end < len(self._coming) and (self._selected is None or self._wants(end)):
            end += 1
        return self._coming[end - 1].end - self.received

    @property
    def whole(self) -> tuple[Chunk, ...]:
        """The chunks of which every byte was taken or passed over."""
        return () if self.head is None else self.head.chunks[: self._next]

    @property
    def level(self) -> int:
        """The highest level that is complete, in all blocks; -1 if none is."""
        if self.head is None:
            return -1
        coming = [chunk.level for chunk in self.head.chunks[self._next :] if chunk.kind in _LEVELLED]
        return coming[0] - 1 if coming else _top_level(self.head)

    def select(self, numbers: Iterable[int]) -> None:
        """Decode these chunks alone; before the bytes of the first one come.

        Args:
            numbers: of chunks of Gaussians in the table, with each those of the same block and lower levels.

        Raises:
            ConfigError: the head is not there yet, or the first chunk is, or a page was passed over that may have a
                lower level of one of their blocks.
        """
        if self.head is None or self.received > self.head.length:
            raise ConfigError("select: expected to be asked between the head of a file and its first chunk")
        selected = frozenset(numbers)
        if barred := selected & self._barred:
            raise ConfigError(
                f"select: expected the pages of all lower levels of a block to be read, found that of chunk "
                f"{min(barred)} passed over"
            )
        self._selected = selected

    @property
    def passable(self) -> bool:
        """Whether `skip` may pass over what comes next.

        That are pages that are not wanted, what belongs to such, and, after `select`, what that did not name.
        """
        return not (self._selected is None or self.complete or self._taken or self._wants(self._next))

    def skip(self) -> None:
        """Pass over the next page or chunk, whose bytes will not be fed and are not checked.

        Raises:
            ConfigError: it is to be decoded, or some of its bytes were fed.
        """
        if not self._coming or not self.passable:
            raise ConfigError("skip: expected a chunk to come that was not selected")
        self.received += self._coming[self._next].length
        self._advance()

    def feed(self, data: bytes | bytearray | memoryview) -> bool:
        """Take the next bytes of the file.

        Args:
            data: any number of them.

        Returns:
            Whether Gaussians were added: a chunk became whole.

        Raises:
            FormatError: the file is none, or was altered. Nothing can be fed after that; what was whole stays.
        """
        if self._failure is not None:
            raise self._failure
        view, before = memoryview(data).cast("B"), len(self._symbols)
        try:
            while view:
                taken = self._feed_chunk(view) if self._coming else self._feed_head(view)
                view = view[taken:]
        except FormatError as error:
            self._failure = error
            raise
        return len(self._symbols) > before

    def gaussians(self, *, partial: bool = False) -> Gaussians2D:
        """The picture so far.

        Args:
            partial: add what can be had of the chunk that is not whole yet; its checksum is not known to be right.

        Returns:
            The Gaussians of the whole chunks that were selected, in the order of the table.

        Raises:
            TruncatedError: the head is not complete yet.
            FormatError: the symbols mean no Gaussians, or those of the chunk that is not whole are wrong.
        """
        if self.head is None or self._coding is None:
            raise self._failure or TruncatedError(self._missing())
        symbols = [*self._symbols, *(self._cut_symbols(self.head, self._coding) if partial else ())]
        try:
            return self._coding.dequantize(symbols, self.quantizer, self.head.header)
        except (FormatError, ShapeError) as error:
            raise FormatError(f"{self._name}: {error}") from error

    def finish(self, *, strict: bool = False) -> tuple[str, ...]:
        """Say that no more bytes come.

        Args:
            strict: expect the whole file.

        Returns:
            One line if a chunk that was selected is not whole, else nothing.

        Raises:
            TruncatedError: the file ends before its level 0 does, or anywhere before its end if ``strict``.
            FormatError: as `feed` raised.
        """
        if self._failure is not None:
            raise self._failure
        if self.complete:
            return ()
        if self.head is None or strict or self.level < 0:
            raise TruncatedError(self._missing())
        chunks = self.head.chunks[self._next :]
        if not any(self._wants(self._next + k) or chunk.kind not in _LEVELLED for k, chunk in enumerate(chunks)):
            return ()
        return (
            f"{self._name}: expected {self.head.end:,} bytes, found {self.received:,}: what there is was drawn; "
            f"of its levels 0 to {_top_level(self.head)}, those up to {self.level} are whole",
        )

    def _feed_head(self, view: memoryview) -> int:
        take = min(self.needed, len(view))
        self._bytes += view[:take]
        self.received += take
        check_start(self._bytes, self._name)
        if head_size(self._bytes, self._name) == self.received:
            self._read_head(read_head(bytes(self._bytes), max_pixels=self._max_pixels, name=self._name))
        return take

    def _read_head(self, head: Head) -> None:
        try:
            self._coding = find(head.header.quantizer)
            self.quantizer = self._coding.read(head.header.parameters, head.header.channels)
        except FormatError as error:
            raise FormatError(f"{self._name}: header: {error}") from error
        self.info = _read_info(head, self._name)
        self._check_chunks(head.chunks, f"{self._name}: chunk")
        if not head.pages:
            self._open(head)
            return
        for number, page in enumerate(head.pages):
            try:
                check_coding(page.entry, self._coding)
            except FormatError as error:
                raise FormatError(f"{self._name}: page {number}: {error}") from error
        if self._pages is not None:
            self._selected = frozenset(self._pages(head))
        self._listed = head
        self._begin(tuple(page.entry for page in head.pages))

    def _open(self, head: Head) -> None:
        """Go on from a head that is complete to its chunks."""
        self.head = head
        self._begin(head.chunks)

    def _check_chunks(self, chunks: Iterable[Chunk], where: str) -> None:
        """Compare what a table says of its chunks with their coding."""
        assert self._coding is not None
        for number, chunk in enumerate(chunks):
            if not chunk.length and chunk.kind != KIND_SPAN:
                check_sum(f"{where} {number}", chunk.checksum, 0)
            if chunk.kind == KIND_GAUSSIANS:
                try:
                    check_chunk(chunk, self._coding, self.quantizer)
                except FormatError as error:
                    raise FormatError(f"{where} {number}: {error}") from error

    def _begin(self, coming: tuple[Chunk, ...]) -> None:
        self._coming, self._next = coming, -1
        self._advance()

    def _feed_chunk(self, view: memoryview) -> int:
        if self.complete:
            end = self.received
            raise FormatError(f"{self._name}: end: expected a file of {end:,} bytes, found {end + len(view):,} or more")
        chunk = self._coming[self._next]
        piece = bytes(view[: chunk.length - self._taken])
        self._taken += len(piece)
        self.received += len(piece)
        self._checksum = checksum(piece, self._checksum)
        if self._wants(self._next):
            self._bytes += piece
        if self._taken == chunk.length:
            if self.head is None:
                self._decode_page(chunk)
            elif chunk.kind != KIND_SPAN:
                self._decode_chunk(chunk)
            self._advance()
        return len(piece)

    def _advance(self) -> None:
        """Go to the next page or chunk that has bytes."""
        self._next += 1
        while self._next < len(self._coming) and not self._coming[self._next].length:
            self._next += 1
        self._taken, self._checksum = 0, 0
        self._bytes.clear()
        if self.complete:
            self._decoders.clear()
            self._payloads.clear()
        elif self._next == len(self._coming):
            self._close_pages()

    def _decode_page(self, entry: Chunk) -> None:
        assert self._listed is not None
        where = f"{self._name}: page {self._next}"
        check_sum(where, entry.checksum, self._checksum)
        if self._wants(self._next):
            head = self._listed
            page, start = head.pages[self._next], head.chunks[self._next].offset
            found = read_page(bytes(self._bytes), page, start, newer=head.newer, where=where)
            self._check_chunks(found, f"{where}: entry")
            self._count += sum(chunk.count for chunk in found)
            check_total(where, self._count)
            self._read[self._next] = found

    def _close_pages(self) -> None:
        """Go on from the pages to the chunks, of which those are barred that those on other pages come before."""
        assert self._listed is not None
        head = self._listed.with_pages(self._read)
        passed = iter([page for number, page in enumerate(head.pages) if number not in self._read])
        unknown, barred = Runs(), set()
        for number, chunk in enumerate(head.chunks):
            if chunk.kind == KIND_SPAN:
                unknown.add(chunk.block, next(passed).last)
            elif chunk.kind == KIND_GAUSSIANS and unknown.meets(chunk.block, chunk.block):
                barred.add(number)
        self._barred, self._selected = frozenset(barred), None
        if len(self._read) < len(head.pages):
            self._selected = frozenset(range(len(head.chunks))) - self._barred
        self._open(head)

    def _decode_chunk(self, chunk: Chunk) -> None:
        assert self.head is not None
        assert self._coding is not None
        where = f"{self._name}: chunk {self._next}"
        check_sum(where, chunk.checksum, self._checksum)
        if not self._wants(self._next):
            return
        if chunk.block not in self._decoders:
            box = self.head.header.blocks.box(chunk.block)
            self._decoders[chunk.block] = self._coding.decoder(self.quantizer, box)
        payload, decoder = bytes(self._bytes), self._decoders[chunk.block]
        try:
            self._symbols.append(decoder.decode(payload, chunk.count))
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from error
        for name, bits in decoder.bits[-1].items():
            self.attribute_bits[name] = self.attribute_bits.get(name, 0.0) + bits
        self._payloads.setdefault(chunk.block, []).append((payload, chunk.count))

    def _cut_symbols(self, head: Head, coding: Coding) -> list[Any]:
        """The symbols that can be had of the chunk that is not whole, by a decoder of its own: this one goes on."""
        if not self._bytes:
            return []
        chunk = head.chunks[self._next]
        decoder = coding.decoder(self.quantizer, head.header.blocks.box(chunk.block))
        for payload, count in self._payloads.get(chunk.block, ()):
            decoder.decode(payload, count)
        try:
            return [decoder.decode(bytes(self._bytes), chunk.count, cut=True)]
        except FormatError as error:
            raise FormatError(f"chunk {self._next}: {error}") from error

    def _wants(self, number: int) -> bool:
        known = self.head is None or self._coming[number].kind == KIND_GAUSSIANS
        return known and (self._selected is None or number in self._selected)

    def _missing(self) -> str:
        """What is missing, as an error says it."""
        found = f"found the end at {self.received:,}"
        if not self._coming:
            size = head_size(self._bytes, self._name)
            if size is None:
                return f"{self._name}: start: expected at least {self.received + self.needed} bytes, {found}"
            return f"{self._name}: head: expected {size:,} bytes, {found}"
        what, chunk = "page" if self.head is None else "chunk", self._coming[self._next]
        return f"{self._name}: {what} {self._next}: expected {chunk.length:,} bytes from {chunk.offset:,}, {found}"


def needed_pages(
    head: Head, *, level: int | None = None, region: tuple[float, float, float, float] | None = None, margin: float = 0
) -> frozenset[int]:
    """The pages that a drawing needs, before any is read; what chunks it needs is then for `needed_chunks` to say.

    A chunk is decoded after those of its block with lower levels, so where a page may have a chunk that touches the
    region, those with lower levels of any of its blocks are needed too.

    Args:
        head: of the file.
        level: the highest level wanted; None is all.
        region: left x, top y, width, height, canvas pixels; None is the whole canvas.
        margin: how much further a Gaussian reaches than at the scale of the canvas, pixels.

    Returns:
        Numbers of pages.
    """
    blocks, above, needed = head.header.blocks, Runs(), set()
    for number, page in reversed(list(enumerate(head.pages))):
        first, last = page.entry.block, page.last
        if level is not None and page.entry.level > level:
            continue
        if region is None or touches(blocks.run_box(first, last), page.entry.reach + margin, region):
            above.add(first, last)
            needed.add(number)
        elif above.meets(first, last):
            needed.add(number)
    return frozenset(needed)


def needed_chunks(
    head: Head, *, level: int | None = None, region: tuple[float, float, float, float] | None = None, margin: float = 0
) -> frozenset[int]:
    """The chunks that a drawing needs.

    Args:
        head: of the file.
        level: the highest level wanted; None is all.
        region: left x, top y, width, height, canvas pixels; None is the whole canvas.
        margin: how much further a Gaussian reaches than at the scale of the canvas, pixels.

    Returns:
        Numbers in the table: the chunks whose Gaussians may touch the region, and those that they are decoded after.
    """
    blocks, needed = head.header.blocks, set()
    of_block: dict[int, list[int]] = {}
    for number, chunk in enumerate(head.chunks):
        if chunk.kind != KIND_GAUSSIANS or (level is not None and chunk.level > level):
            continue
        of_block.setdefault(chunk.block, []).append(number)
        if region is None or touches(blocks.box(chunk.block), chunk.reach + margin, region):
            needed.update(of_block[chunk.block])
    return frozenset(needed)


def feed_head(file: BinaryIO, decoder: Decoder, limit: int | None = None) -> None:
    """Feed a decoder from a file up to the end of the head and its pages, or of the file.

    Pages that are not wanted are passed over where the file allows it.

    Args:
        file: open for reading, at its start.
        decoder: gets no byte of a payload.
        limit: use no more than so many bytes of the file.

    Raises:
        FormatError: as `Decoder.feed`.
    """
    size: int | None = None
    while decoder.head is None:
        if decoder.passable and size is None:
            size = _size(file)
        if not _pass_over(file, decoder, size, limit) and not _feed_some(file, decoder, limit):
            return


def feed_chunks(file: BinaryIO, decoder: Decoder, limit: int | None = None) -> None:
    """Feed the rest of a file, passing over what is not selected where the file allows it.

    Args:
        file: at the end of the head.
        decoder: its head is complete.
        limit: use no more than so many bytes of the file.

    Raises:
        FormatError: as `Decoder.feed`, or the file goes on after its end.
    """
    size = _size(file)
    while decoder.needed:
        if not _pass_over(file, decoder, size, limit) and not _feed_some(file, decoder, limit):
            return
    if decoder.complete and (limit is None or decoder.received < limit):
        decoder.feed(file.read(1))


def _pass_over(file: BinaryIO, decoder: Decoder, size: int | None, limit: int | None) -> bool:
    """Pass over what comes next, if it is not wanted and all of it is there."""
    after = decoder.received + decoder.needed
    if size is None or not decoder.passable or after > size or (limit is not None and after > limit):
        return False
    decoder.skip()
    file.seek(decoder.received)
    return True


def _feed_some(file: BinaryIO, decoder: Decoder, limit: int | None) -> bool:
    """Feed a piece of what the decoder needs; False at the end of the file or at the limit."""
    length = min(decoder.needed if decoder.passable else decoder.run, _PIECE)
    if limit is not None:
        length = min(length, limit - decoder.received)
    data = file.read(length) if length > 0 else b""
    decoder.feed(data)
    return bool(data)


def _size(file: BinaryIO) -> int | None:
    """Bytes of a file in which one can go to any place; None of another."""
    if not file.seekable():
        return None
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


def _top_level(head: Head) -> int:
    return max(chunk.level for chunk in head.chunks if chunk.kind in _LEVELLED)


def _read_info(head: Head, name: str) -> PictureInfo | None:
    if not head.metadata:
        return None
    try:
        info = PictureInfo.from_bytes(head.metadata)
    except FormatError as error:
        raise FormatError(f"{name}: metadata: {error}") from error
    if info.channels != head.header.channels:
        raise FormatError(
            f"{name}: metadata: expected {head.header.channels} channels as in the header, found {info.channels}"
        )
    return info
