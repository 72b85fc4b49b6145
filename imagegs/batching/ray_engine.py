"""Ray as an engine: tasks run on this machine or on the nodes of a cluster.

A task may fail, its process may die on it, or the node may be lost: the first two are attempts, the last is not, and
the task runs again elsewhere. Nodes that join or go change how many tasks are handed over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigError, DeviceError, one_line
from .engines import THREAD_VARIABLES, Engine, Outcome, Task, attempt

T = TypeVar("T", bound=Task)
R = TypeVar("R")

PULSE = 2.0
"""Seconds after which the nodes are counted again."""
PATIENCE = 120.0
"""Seconds that a cluster may have no node on which a task fits."""
GRACE = 3.0
"""Seconds that tasks have to leave nothing half-written when they are interrupted."""
REACH = 5.0
"""Seconds that a cluster has to answer."""
STORE = 2**28
"""Bytes of the object store where Ray is started here: results are small."""
CLIENT = "ray://"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How HTTP/2 begins (RFC 9113, 3.4), with empty settings; what speaks it answers with its own."""
ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a GPU is seen by all tasks of its node, as by processes of one machine
}


class RayEngine(Engine):
    """Tasks of a Ray cluster, whose nodes must have this package and reach files by the same paths (shared storage).

    Where this process has joined a cluster already, that one is used, and stays joined.

    Args:
        workers: tasks at once; by default what the CPUs of the cluster allow, as nodes join and go.
        threads: of each task, which takes as many CPUs; by default one.
        address: HOST:PORT of the cluster, "auto" for the one that was started on this machine, or ray://HOST:PORT; by
            default that of the variable RAY_ADDRESS, else Ray is started on this machine.
        most: no more tasks than these are expected.

    Raises:
        ConfigError: numbers out of range, or an address that is none.
        DeviceError: the package ray is absent, or the cluster cannot be reached.
    """

    def __init__(
        self,
        workers: int | None = None,
        threads: int | None = None,
        address: str | None = None,
        most: int | None = None,
    ) -> None:
        if (workers is not None and workers < 1) or (threads is not None and threads < 1):
            raise ConfigError(f"Ray: expected workers and threads from 1, found {workers} and {threads}")
        try:
            import ray
        except ImportError as error:
            raise DeviceError("--engine ray needs the package ray: pip install 'imagegs[ray]'") from error
        self._given = workers
        self._most = most
        super().__init__(self._bounded(workers or 1), threads or 1)
        self._owned = not ray.is_initialized()
        self._tickets: dict[Any, None] = {}  # in the order in which they were handed over
        self._fitted = time.monotonic()
        if not self._owned and address is not None:
            raise ConfigError(f"address: expected none, since a Ray cluster is joined already, found {address}")
        if self._owned:
            cpus = max(os.cpu_count() or 1, self.threads) if workers is None else self.workers * self.threads
            named = os.environ.get("RAY_ADDRESS") if address in (None, "auto") else None  # as Ray has it
            _join(named or address, cpus)
        try:
            self._check_fit()
            self._count()
        except BaseException:
            self.close()
            raise
        options = {"num_cpus": self.threads, "max_retries": 0, "runtime_env": {"env_vars": ENVIRONMENT}}
        self._attempt = ray.remote(**options)(attempt_in)

    @property
    def room(self) -> int:
        """Tasks that may be handed over at once: the cluster would run more than were asked for."""
        return super().room if self._given is None else self.workers

    def close(self) -> None:
        """Stop tasks that still run, and leave the cluster if it was joined here."""
        import ray

        tickets = list(self._tickets)
        self._tickets.clear()
        if self._owned:
            ray.shutdown()  # the nodes end its processes, which remove what they had begun to write
        elif tickets:
            _stop(tickets)

    def _start(self, work: Callable[[T], R], task: T) -> Any:
        ticket = self._attempt.remote(os.getcwd(), work, task)
        self._tickets[ticket] = None
        return ticket

    def _wait(self, tickets: list[Any]) -> Iterable[Any]:
        import ray

        done: list[Any]
        done, rest = ray.wait(tickets, timeout=PULSE)
        if rest and done:
            done = [*done, *ray.wait(rest, num_returns=len(rest), timeout=0)[0]]
        if time.monotonic() - self._counted >= PULSE:
            self._count()
        return done

    def _outcome(self, ticket: Any, task: T) -> Outcome[T, Any]:
        import ray
        from ray import exceptions

        self._tickets.pop(ticket, None)
        try:
            found: Outcome[T, Any] = ray.get(ticket)
        except (exceptions.NodeDiedError, exceptions.ObjectLostError):
            return Outcome(task, error=f"{task.name}: the node that it ran on was lost", lost=True)
        except exceptions.OutOfMemoryError:
            return Outcome(task, error=f"{task.name}: the process died on it: its node had no memory left")
        except exceptions.WorkerCrashedError:
            return Outcome(task, error=f"{task.name}: the process died on it")
        except Exception as error:  # such as a result that cannot be sent
            cause = getattr(error, "cause", None) or error
            text = str(cause).strip().partition("\n")[0]  # Ray adds the traceback
            return Outcome(task, error=f"{task.name}: {type(cause).__name__}: {text}")
        return replace(found, task=task)

    def _bounded(self, workers: int) -> int:
        return workers if self._most is None else max(1, min(workers, self._most))

    def _check_fit(self) -> None:
        """Refuse tasks for which no node is large enough, since Ray would wait for one."""
        largest = max(_cpus(), default=0)
        if largest < self.threads:
            raise ConfigError(
                f"threads: expected at most {largest}, the CPUs of the cluster's largest node, found {self.threads}"
            )

    def _count(self) -> None:
        """Follow the nodes.

        Raises:
            DeviceError: none of them was large enough for a long time.
        """
        places = sum(cpus // self.threads for cpus in _cpus())
        self._counted = time.monotonic()
        if places:
            self._fitted = self._counted
        elif self._counted - self._fitted > PATIENCE:
            raise DeviceError(f"Ray: expected a node with {self.threads} CPUs, found none for {PATIENCE:.0f} s")
        if self._given is None:
            self.workers = self._bounded(max(1, places))


def attempt_in(folder: str, work: Callable[[T], R], task: T) -> Outcome[T, R]:
    """Do the work where this runs, in the folder of the one who asks for it: paths may be relative to that."""
    with contextlib.chdir(folder) if os.path.isdir(folder) else contextlib.nullcontext():
        return attempt(work, task)


def _join(address: str | None, cpus: int) -> None:
    """Join a cluster, or start Ray on this machine.

    Raises:
        ConfigError: the address is none.
        DeviceError: it cannot be reached.
    """
    import ray

    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # those of tasks that nobody waits for any more
    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if options["address"] == "local":
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    else:
        _check_reach(options["address"])
    try:
        ray.init(**options)
    except Exception as error:  # many kinds, between versions
        ray.shutdown()
        raise DeviceError(f"{address or 'Ray'}: expected a Ray cluster, found: {one_line(error)}") from error


def _check_reach(address: str) -> None:
    """Refuse an address where no cluster answers: Ray itself would wait for minutes.

    Raises:
        ConfigError: it is none.
        DeviceError: nothing answers, or something else.
    """
    where = _local_cluster() if address == "auto" else address.removeprefix(CLIENT)
    try:
        parts = urlsplit(f"//{where}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != where:
        raise ConfigError(f"address: expected auto, HOST:PORT or {CLIENT}HOST:PORT, found {address}")
    try:
        with socket.create_connection((host, port), REACH) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                connection.settimeout(REACH)
                connection.sendall(PREFACE)
                found = connection.recv(4, socket.MSG_WAITALL)
                if found[3:] != b"\x04":  # the type of a frame: settings
                    raise DeviceError(f"{address}: expected a Ray cluster there, found something else")
    except OSError as error:
        reason = (error.strerror or one_line(error)).lower()
        raise DeviceError(f"{address}: expected a Ray cluster there, found none: {reason}") from error


def _local_cluster() -> str:
    """The address of the cluster that was started on this machine, HOST:PORT.

    Raises:
        DeviceError: there is none.
    """
    from ray._private import services  # what "auto" means is not public

    try:
        return str(services.canonicalize_bootstrap_address("auto"))
    except ConnectionError as error:
        raise DeviceError("auto: expected a Ray cluster on this machine, found none; ray start begins one") from error


def _stop(tickets: list[Any]) -> None:
    """Interrupt tasks, then stop those that go on."""
    import ray

    for ticket in reversed(tickets):  # else the next would begin as soon as one that runs is interrupted
        ray.cancel(ticket)
    for ticket in ray.wait(tickets, num_returns=len(tickets), timeout=GRACE)[1]:
        ray.cancel(ticket, force=True)


def _cpus() -> list[int]:
    """CPUs of each node that is there."""
    import ray

    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
