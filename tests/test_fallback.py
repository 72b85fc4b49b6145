"""A fit where no compiled kernels could be built."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from imagegs.decoding import decode
from imagegs.encoding import encode
from imagegs.errors import ImageGSWarning
from imagegs.kernels import native


@pytest.mark.parametrize("settings", [{}, {"blend": "topk", "loss": {"l1": 1, "l2": 0, "ssim": 0.1}}], ids=str)
def test_the_reference_fits_and_decodes(
    scene: npt.NDArray[np.float32], settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_native", None)
    native._reference.cache_clear()
    pixels = scene[:, 16:40, 24:56]
    try:
        with pytest.warns(ImageGSWarning, match="install a C\\+\\+ compiler") as told:
            encoded = encode(pixels, gaussians=30, steps=15, relocate_every=4, threads=2, **settings)  # type: ignore[arg-type]
        assert sum(issubclass(warning.category, ImageGSWarning) for warning in told) == 1
        np.testing.assert_array_equal(decode(encoded.data).pixels, encoded.decoded)
    finally:
        native._reference.cache_clear()
    assert len(encoded.gaussians) == 30
    assert encoded.psnr > encoded.fit.history[0][2] + 3
