from collections.abc import Sequence
from typing import Annotated, Any

import numpy
from numpy.typing import NDArray

RADIUS: float = ...

CUTOFF: float = ...

EPSILON: float = ...

MIN_SCALE: float = ...

MAX_SCALE: float = ...

MAX_MEAN: float = ...

FOOTPRINT: float = ...

MAX_CHANNELS: int = ...

MAX_TOP_K: int = ...

PARTS: tuple[str, ...] = ...

class Malformed(ValueError):
    pass

def lattice_angles(
    steps: Sequence[int],
    shapes: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
) -> Annotated[NDArray[numpy.int32], dict(shape=(None, None))]: ...

class BlockCodec:
    def __init__(self, steps: Sequence[int], box: tuple[int, int, int, int]) -> None: ...
    def cells(
        self,
        symbols: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
    ) -> Annotated[NDArray[numpy.int32], dict(shape=(None, None))]: ...
    def encode(
        self,
        symbols: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        colors: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        wanted: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order="C", device="cpu", writable=False)]
        | None,
        bit_worth: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order="C", device="cpu", writable=False)]
        | None,
    ) -> tuple[Any, ...]: ...
    def decode(self, data: bytes, count: int, cut: bool) -> tuple[Any, ...]: ...

class Sampler:
    def __init__(
        self,
        means: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
        rotations: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        colors: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        height: int,
        width: int,
        cell: int,
        blend: int,
        top_k: int,
    ) -> None: ...
    def sample(
        self,
        points: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
        background: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        colors: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        costs: Annotated[NDArray[numpy.int32], dict(shape=(None, 2), order="C", device="cpu")] | None,
    ) -> None: ...
    @property
    def pairs(self) -> int: ...

def set_threads(count: int) -> None: ...
def threads() -> int: ...
def select_kernels(name: str) -> bool: ...
def kernels() -> str: ...

class Renderer:
    def __init__(self) -> None: ...
    def prepare(
        self,
        means: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu", writable=False)],
        rotations: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        colors: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        height: int,
        width: int,
        viewport: tuple[float, float, float, float],
        blend: int,
        top_k: int,
    ) -> None: ...
    def forward(
        self,
        background: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
        keep: bool,
    ) -> None: ...
    def backward(
        self,
        background: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")] | None,
        target: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
        ]
        | None,
        weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
        | None,
        v_image: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
        ]
        | None,
        l1: float,
        l2: float,
        fused: bool,
        v_local: Annotated[NDArray[numpy.float32], dict(shape=(None, 5), order="C", device="cpu")],
        v_colors: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        v_background: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
    ) -> tuple[float, float]: ...
    def removal(
        self,
        background: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")],
        target: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
        ],
        weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
        | None,
        growth: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
    ) -> None: ...
    @property
    def pairs(self) -> int: ...

def ssim(
    image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
    target: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)]
    | None,
    scale: float,
    v_image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu")] | None,
) -> float: ...
def adam(
    gradient: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
    first: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    second: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
    beta1: float,
    beta2: float,
    epsilon: float,
    correction1: float,
    correction2: float,
    update: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
) -> None: ...
def apply_local(
    update: Annotated[NDArray[numpy.float32], dict(shape=(None, 5), order="C", device="cpu", writable=False)],
    position: float,
    scale: float,
    rotation: float,
    low: float,
    high: float,
    means: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu")],
    scales: Annotated[NDArray[numpy.float32], dict(shape=(None, 2), order="C", device="cpu")],
    rotations: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
) -> None: ...
