"""What tests that need a GPU share: where there is none they are skipped, and say so."""

from __future__ import annotations

import pytest

from imagegs import devices
from imagegs.errors import DeviceError
from imagegs.kernels import cuda


def skip_without_driver() -> None:
    """Skips the test where there is no NVIDIA driver."""
    if not devices.driver_is_there():
        pytest.skip("needs an NVIDIA GPU: there is no driver")


def open_or_skip() -> cuda.Device:
    """The first GPU; skips the test where there is none, fails it where there is one that cannot be used."""
    skip_without_driver()
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: PyTorch sees none")
    try:
        return devices.open_gpu(0)
    except DeviceError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
