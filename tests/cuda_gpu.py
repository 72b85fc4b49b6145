"""What tests that need a GPU share: where there is none they are skipped, and say so."""

from __future__ import annotations

import pytest

from imagegs.devices import driver_is_there


def skip_without_driver() -> None:
    """Skips the test where there is no NVIDIA driver."""
    if not driver_is_there():
        pytest.skip("needs an NVIDIA GPU: there is no driver")
