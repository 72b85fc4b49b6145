"""What a source of importance is worth: against human fixations, and in files of the same size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from imagegs import ConfigError, as_picture
from imagegs import encode as encode_plain

from .builtin import center_prior
from .fixations import Sample, Table, tabulate
from .guide import FLOOR, guidance_of
from .maps import FloatArray
from .scores import Scores, score
from .sources import Sources, make_importance

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
EQUAL = 0.01
"""Files are called equal in size if that differs by less than this share."""


@dataclass(frozen=True)
class Row:
    """A picture at one strength.

    Attributes:
        picture: its name.
        strength: 0 is plain.
        bytes: of the file.
        bpp: bits per pixel.
        gaussians: in the file.
        scores: of what it decodes to, by human fixations.
    """

    picture: str
    strength: float
    bytes: int
    bpp: float
    gaussians: int
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Everything in one level."""
        found = asdict(self)
        return {**{name: value for name, value in found.items() if name != "scores"}, **found["scores"]}


def maps_of(sources: Sources, samples: Sequence[Sample]) -> list[FloatArray]:
    """The sources' maps, one for each sample.

    Raises:
        ConfigError: a mask or boxes are among them, which belong to one picture.
        ImageGSError: a model fails.
    """
    for name in ("mask", "boxes"):
        if name in sources.names:
            raise ConfigError(f"{name}: expected a source that can look at any picture, found one for a single picture")
    importance = make_importance(sources)
    return [importance(as_picture(sample.picture)) for sample in samples]


def baseline(samples: Sequence[Sample]) -> Table:
    """The scores of the centre prior alone, which looks at no picture."""
    return tabulate([center_prior((sample.density.shape[0], sample.density.shape[1])) for sample in samples], samples)


def compression_rows(
    maps: Sequence[FloatArray],
    samples: Sequence[Sample],
    *,
    bpp: float,
    strengths: Sequence[float] = STRENGTHS,
    floor: float = FLOOR,
    without: Collection[str] = (),
    on_row: Callable[[Row], None] | None = None,
    **options: Any,
) -> list[Row]:
    """Encode each picture plainly and by its map at some strengths, in files of the same size.

    Args:
        maps: of importance, one for each sample.
        samples: pictures and where people looked, by which every file is scored.
        bpp: bits per pixel of the plain file; the others aim at its size.
        strengths: above 0 up to 1.
        floor: see ``guide.weights_of``.
        without: effects to leave out.
        on_row: called with every row.
        **options: of ``imagegs.encode``.

    Returns:
        For each picture the plain row, of strength 0, then one for each strength.

    Raises:
        ImageGSError: see ``imagegs.encode``.
    """
    rows = []
    for found, sample in zip(maps, samples, strict=True):
        plain = _row(sample, 0.0, encode_plain(sample.picture, bpp=bpp, **options))
        rows.append(plain)
        if on_row is not None:
            on_row(plain)
        for strength in strengths:
            guidance = guidance_of(found, strength, floor, without)
            encoded = encode_plain(sample.picture, size=plain.bytes, guidance=guidance, **options)
            rows.append(_row(sample, strength, encoded))
            if on_row is not None:
                on_row(rows[-1])
    return rows


def _row(sample: Sample, strength: float, encoded: Any) -> Row:
    scores = score(sample.picture, encoded.decoded, sample.density)
    return Row(sample.name, strength, len(encoded.data), encoded.bpp, len(encoded.gaussians), scores)


@dataclass(frozen=True)
class Gain:
    """Means over pictures at one strength, against plain files of the same size.

    Attributes:
        strength: 0 to 1.
        changes: mean difference of each score; None where no picture has it.
        least: the smallest difference of each.
        size: largest deviation of a file from the plain one's size, as a share.
    """

    strength: float
    changes: dict[str, float | None]
    least: dict[str, float | None]
    size: float


def gains(rows: Sequence[Row]) -> list[Gain]:
    """What every strength changes, of rows as ``compression_rows`` gives them."""
    return list(_gains(rows))


def _gains(rows: Sequence[Row]) -> Iterator[Gain]:
    plain = {row.picture: row for row in rows if row.strength == 0}
    names = [field.name for field in fields(Scores) if field.name != "region_share"]
    for strength in sorted({row.strength for row in rows} - {0.0}):
        pairs = [(plain[row.picture], row) for row in rows if row.strength == strength]
        changes: dict[str, float | None] = {}
        least: dict[str, float | None] = {}
        for name in names:
            both = [(getattr(before.scores, name), getattr(after.scores, name)) for before, after in pairs]
            found = [after - before for before, after in both if before is not None and after is not None]
            changes[name] = float(np.mean(found)) if found else None
            least[name] = float(min(found)) if found else None
        yield Gain(strength, changes, least, max(abs(after.bytes / before.bytes - 1) for before, after in pairs))


FIXATION_SCORES = {
    "auc_judd": "AUC-Judd",
    "shuffled_auc": "sAUC",
    "nss": "NSS",
    "cc": "CC",
    "sim": "SIM",
    "kl": "KL",
}
GAINS = {
    "weighted_psnr": "weighted",
    "region_psnr": "region",
    "outside_psnr": "rest",
    "psnr": "all",
    "region_ms_ssim": "region MS",
    "outside_ms_ssim": "rest MS",
}


def fixation_rows(table: Table, beside: Table) -> list[tuple[str, ...]]:
    """A table's rows as text, its mean and that of the centre prior last."""
    named = [(row.picture, row) for row in (*table.rows, table.mean)] + [("mean, centre prior", beside.mean)]
    return [(name, *(_number(getattr(row, key), "{:.3f}") for key in FIXATION_SCORES)) for name, row in named]


def gain_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Mean changes against plain files at every strength, as text."""
    found = []
    for gain in gains(rows):
        changes = [_number(gain.changes[name], "{:+.4f}" if "ssim" in name else "{:+.2f}") for name in GAINS]
        found.append((f"{gain.strength:g}", *changes, f"±{100 * gain.size:.1f} %"))
    return found


def to_dict(name: str, table: Table, beside: Table, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything for machines."""
    found: dict[str, Any] = {"importance": name, "fixations": asdict(table), "center_prior": asdict(beside.mean)}
    if rows:
        found["compression"] = {
            "rows": [row.to_dict() for row in rows],
            "gains": [asdict(gain) for gain in gains(rows)],
        }
    return found


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value + 0.0 if abs(value) > 5e-5 else 0.0)
