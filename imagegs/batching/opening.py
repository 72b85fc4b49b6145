"""The engine that is meant by a name."""

from __future__ import annotations

from ..errors import ConfigError
from .engines import Engine, LocalEngine
from .ray_engine import RayEngine

ENGINES = ("local", "ray")


def open_engine(
    name: str,
    *,
    workers: int | None = None,
    threads: int | None = None,
    most: int | None = None,
    address: str | None = None,
) -> Engine:
    """A context in which tasks run, see `Engine`.

    Args:
        name: "local", processes of this machine, or "ray", tasks of a Ray cluster.
        workers: tasks at once; by default what the cores allow.
        threads: of each; by default its share of the cores on this machine, one with Ray.
        most: no more tasks than these are expected.
        address: of the Ray cluster, see `RayEngine`.

    Raises:
        ConfigError: no such engine, an address where there is none, or numbers out of range.
        DeviceError: the engine's package is absent, or its cluster cannot be reached.
    """
    check_engine(name, address)
    if name == "ray":
        return RayEngine(workers, threads, address, most)
    return LocalEngine(workers, threads, most)


def check_engine(name: str, address: str | None) -> None:
    """Refuse an engine that is not known, and an address of one that has none.

    Raises:
        ConfigError: with the reason.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine: expected {' or '.join(ENGINES)}, found {name}")
    if address is not None and name != "ray":
        raise ConfigError(f"address: expected none with the engine {name}, found {address}; --engine ray takes one")
