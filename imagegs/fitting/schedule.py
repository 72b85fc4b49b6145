"""How the rates fall over a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .config import FitConfig

CHECK_EVERY = 100
"""Official Image-GS looks at PSNR and SSIM every so many steps …"""
CHECK_PATIENCE = 1000
"""… and divides the rates by ten after so many without improvement; the second time it stops."""
PLATEAU_PSNR, PLATEAU_SSIM = 0.1, 0.001
HALVE_EVERY = 20_000


@dataclass
class Plateau:
    """State of the official Image-GS schedule."""

    best_psnr: float = -math.inf
    best_ssim: float = -math.inf
    since: int = 0
    decays: int = 0

    def see(self, psnr: float, ssim: float) -> None:
        """Takes in a check; the fit should stop at the second decay."""
        if psnr > self.best_psnr + PLATEAU_PSNR and ssim > self.best_ssim + PLATEAU_SSIM:
            self.best_psnr, self.best_ssim, self.since = psnr, ssim, 0
            return
        self.since += CHECK_EVERY
        if self.since >= CHECK_PATIENCE:
            self.since = 0
            self.decays += 1


def rate_factor(config: FitConfig, step: int, plateau: Plateau) -> float:
    """Factor of the rates at a step (from 1)."""
    if config.schedule == "plateau":
        return float(0.1**plateau.decays)
    if config.schedule == "halving":
        return float(0.5 ** ((step - 1) // HALVE_EVERY))
    progress = step / config.steps
    if progress < config.hold or config.hold >= 1:
        return 1.0
    return float(config.decay ** (-(progress - config.hold) / (1 - config.hold)))
