"""Where work is done: in processes of this machine, or elsewhere; a task that goes wrong costs that task alone."""

from __future__ import annotations

import multiprocessing
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ConfigError, DeviceError, ImageGSError, one_line

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
AHEAD = 2
"""Tasks that were handed over for each that can run at once: a long list does not stand in memory twice."""
LOSSES = 3
"""Places that a task may lose before it counts against the task: it could be what brings them down."""


class Task(Protocol):
    """What work is done with; it is sent to another process, so it must pickle."""

    @property
    def name(self) -> str:
        """What an error calls it."""
        ...


T = TypeVar("T", bound=Task)
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What came of a task.

    Attributes:
        task: it.
        result: what the work returned; None where it failed.
        error: why it failed, in one line.
        attempts: how often it was tried.
        seconds: that the last attempt took, where it ran.
        lost: it failed since the machine where it ran is gone, which is no fault of the task.
    """

    task: T
    result: R | None = None
    error: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    lost: bool = False


class Engine(ABC):
    """A context in which tasks run, several at once.

    Attributes:
        workers: tasks that run at once.
        threads: that each of them should use.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers = workers
        self.threads = threads

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def room(self) -> int:
        """Tasks that may be handed over at once."""
        return AHEAD * self.workers

    def run(self, work: Callable[[T], R], tasks: Iterable[T], *, retries: int = 0) -> Iterator[Outcome[T, R]]:
        """Outcomes of tasks, as they are through; one that failed is tried again, one whose machine is gone runs again.

        Args:
            work: a function that can be imported.
            tasks: taken from as there is room.
            retries: how often a task is tried again.
        """
        waiting = iter(tasks)
        running: dict[Any, tuple[T, int, int]] = {}
        while True:
            while len(running) < self.room and (task := next(waiting, None)) is not None:
                running[self._start(work, task)] = task, 1, 0
            if not running:
                return
            for ticket in self._wait(list(running)):
                task, attempt, losses = running.pop(ticket)
                outcome = self._outcome(ticket, task)
                if outcome.lost and losses < LOSSES:
                    running[self._start(work, task)] = task, attempt, losses + 1
                elif outcome.error is not None and attempt <= retries:
                    running[self._start(work, task)] = task, attempt + 1, losses
                else:
                    yield replace(outcome, attempts=attempt)

    @abstractmethod
    def close(self) -> None:
        """Give everything back; tasks that still run are stopped."""

    @abstractmethod
    def _start(self, work: Callable[[T], R], task: T) -> Any:
        """Hand a task over; the ticket is hashable."""

    @abstractmethod
    def _wait(self, tickets: list[Any]) -> Iterable[Any]:
        """Those that are through; none where there may be more room by now."""

    @abstractmethod
    def _outcome(self, ticket: Any, task: T) -> Outcome[T, Any]:
        """What came of a task that is through, the death of its process included."""


class LocalEngine(Engine):
    """Processes of this machine, between which its cores are divided.

    Args:
        workers: processes; by default one for each core.
        threads: of each; by default its share of the cores.
        most: no more processes than tasks are expected.

    Raises:
        ConfigError: fewer than one process.
        DeviceError: the package pebble is absent.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None, most: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers: expected at least 1, found {workers}")
        try:
            from pebble import ProcessPool
        except ImportError as error:
            raise DeviceError("batch needs the package pebble: pip install 'imagegs[batch]'") from error
        cores = os.cpu_count() or 1
        workers = min(workers or cores, max(1, cores if most is None else most))
        super().__init__(workers, threads or max(1, cores // workers))
        for name in THREAD_VARIABLES:  # of what the processes import
            os.environ.setdefault(name, "1")
        self._pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))

    def close(self) -> None:
        """Stop the processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _start(self, work: Callable[[T], R], task: T) -> Future[Outcome[T, R]]:
        future: Future[Outcome[T, R]] = self._pool.schedule(attempt, args=(work, task))
        return future

    def _wait(self, tickets: list[Any]) -> Iterable[Any]:
        return wait(tickets, return_when=FIRST_COMPLETED).done

    def _outcome(self, ticket: Any, task: T) -> Outcome[T, Any]:
        from pebble import ProcessExpired

        try:
            found: Outcome[T, Any] = ticket.result()
        except ProcessExpired as error:
            return Outcome(task, error=f"{task.name}: the process died on it, with status {error.exitcode}")
        except Exception as error:  # such as a result that cannot be sent
            return Outcome(task, error=f"{task.name}: {type(error).__name__}: {one_line(error)}")
        return replace(found, task=task)


def attempt(work: Callable[[T], R], task: T) -> Outcome[T, R]:
    """Do the work where this runs; what goes wrong is in the outcome."""
    began = time.perf_counter()
    try:
        result = work(task)
    except (ImageGSError, OSError, MemoryError) as error:
        return Outcome(task, error=one_line(error), seconds=time.perf_counter() - began)
    except Exception as error:  # one task must not stop the rest
        text = f"{task.name}: {type(error).__name__}: {one_line(error)}"
        return Outcome(task, error=text, seconds=time.perf_counter() - began)
    return Outcome(task, result, seconds=time.perf_counter() - began)
