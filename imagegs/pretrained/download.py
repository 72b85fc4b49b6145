"""Downloads that can be interrupted: a file has its name only when it is whole and is what it should be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .checks import check, difference, record
from .manifest import File, model
from .places import found, is_chosen, partials, temporary_of, weights_folder
from .reading import check_readable, reason, required

RETRIES = 3
"""How often a transfer that breaks off is taken up again before that is an error."""
TIMEOUT = 30.0
"""Seconds without an answer or a byte after which a transfer counts as broken off."""

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and all of its bytes where the server says it."""


def fetch(name: str, folder: Path | None = None, *, progress: Progress | None = None) -> list[Path]:
    """Download the files of a model that are absent or damaged; what is there and whole stays, and nobody is asked.

    A file gets its name only when it is whole: with the size and the checksum of the manifest, or, where no checksum is
    published, when it can be read as weights; its checksum is then recorded beside it. A transfer that breaks off
    leaves a hidden file, from which the next call goes on. Files of the hub are left to the hub's client, which stores
    whole files alone, and which takes up a broken transfer within one call, but not in the next.

    Args:
        name: the model.
        folder: of the weights; see `weights_folder`. Files of the hub go there, in the layout of its cache, where this
            or ``IMAGEGS_WEIGHTS`` is given, else into the hub's own cache.
        progress: is told how far each file is.

    Returns:
        The files.

    Raises:
        ConfigError: there is no such model.
        DeviceError: a package that downloads or reads is not installed.
        WeightsError: a file cannot be downloaded or written, or is not what the manifest says.
    """
    entry, base = model(name), weights_folder(folder)
    report = progress or _say_nothing
    fetched = []
    for part in entry.files:
        path = found(entry, part, folder)
        problem = "" if path is None else check(entry, part, path).problem
        if path is None or problem:
            if entry.hub is None:
                path = _fetch_file(part, base, report)
            elif path is None or "snapshots" in path.parts:
                cache = base if is_chosen(folder) else None
                path = _fetch_from_hub(entry.hub, part.name, cache, report, again=path is not None)
            else:
                raise WeightsError(f"{path}: {problem}; remove it, it hides what the hub's client downloads")
        fetched.append(path)
    return fetched


def _say_nothing(file: str, done: int, total: int | None) -> None:
    pass


def _fetch_file(part: File, base: Path, report: Progress) -> Path:
    target, temporary = base / part.name, temporary_of(base, part.name)
    url = str(part.url)
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _alone(temporary.with_name(f"{temporary.name}.lock"), target):
            _download(url, target, lambda done, total: report(part.name, done, total))
            try:
                _check_download(part, temporary)
            except WeightsError:
                temporary.unlink()
                raise
            if part.sha256 is None:
                record(target, temporary, url)
            # gdown's files are their owner's alone, whatever the umask says; they become as open as their folder
            os.chmod(temporary, 0o600 | (base.stat().st_mode & 0o666))
            os.replace(temporary, target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written: {reason(error)}") from error
    return target


@contextmanager
def _alone(lock: Path, target: Path) -> Iterator[None]:
    """Keep a second process from writing into the same hidden file."""
    from filelock import FileLock, Timeout  # torch and gdown bring it

    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                # whoever comes from here on finds nothing half written; Windows keeps the file while it is open
                with suppress(OSError):
                    lock.unlink()
    except Timeout as error:
        raise WeightsError(f"{target}: another process is downloading this file") from error


def _download(url: str, target: Path, report: Callable[[int, int | None], None]) -> None:
    """Download under the hidden name, going on from what an earlier call left if the server can."""
    base, temporary = target.parent, temporary_of(target.parent, target.name)
    gdown = required("gdown")
    for last in (False, True):
        for smaller in partials(base, target.name)[:-1]:  # gdown refuses to choose
            smaller.unlink()
        try:
            gdown.download(
                url,
                str(temporary),
                quiet=True,
                use_cookies=False,
                resume=True,
                progress=report,
                timeout=TIMEOUT,
                retries=RETRIES,
            )
            return
        except Exception as error:  # gdown lets errors of its parsing and of the connection through beside its own
            # a server may be unable to go on in the middle, or have another file by now
            anew = "byte range" in str(error) and not last
            kept = 0
            for path in partials(base, target.name):
                kept += path.stat().st_size
                if anew or path.stat().st_size == 0:
                    path.unlink()
            if anew:
                continue
            rest = f"; {kept:,} bytes are kept, the same command goes on from there" if kept else ""
            raise WeightsError(f"{url}: cannot be downloaded to {target}: {_failure(error)}{rest}") from error


def _failure(error: Exception) -> str:
    """Why a download failed, in a few words."""
    from gdown.exceptions import FileURLRetrievalError
    from requests import RequestException

    cause = error.__cause__ if isinstance(error.__cause__, RequestException) else error
    response = getattr(cause, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    if isinstance(error, FileURLRetrievalError):
        return (
            "Google Drive shows a page in place of the file, as it does when many have asked for it; "
            "try again later, or save it there with a browser"
        )
    if isinstance(cause, RequestException):
        return f"the connection failed ({type(cause).__name__})"
    return reason(error) if isinstance(error, OSError) else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip(" .") or type(error).__name__


def _check_download(part: File, temporary: Path) -> None:
    try:
        problem = difference(temporary, part.sha256, part.size)
        if not problem and part.sha256 is None:
            check_readable(temporary)
    except WeightsError as error:
        problem = str(error).removeprefix(f"{temporary}: ")
    if problem:
        raise WeightsError(f"{part.url}: the download is refused: {problem}")


def _fetch_from_hub(hub: str, file: str, cache: Path | None, report: Progress, *, again: bool) -> Path:
    client = required("huggingface_hub")
    bar = _reporting_bar(lambda done, total: report(file, done, total))
    try:
        return Path(client.hf_hub_download(hub, file, cache_dir=cache, force_download=again, tqdm_class=bar))
    except Exception as error:  # its own errors, those of the connection and those of the disk have no common base
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if response is not None:
            why = f"the hub answers {response.status_code}"
        elif isinstance(error, required("huggingface_hub.errors").LocalEntryNotFoundError):
            why = "the hub cannot be reached, or HF_HUB_OFFLINE is set"
        else:
            why = _first_line(error)
        raise WeightsError(f"{hub}: {file} cannot be downloaded: {why}") from error


def _reporting_bar(report: Callable[[int, int | None], None]) -> type[Any]:
    """What the hub's client takes for a progress bar: it shows nothing and passes on how far the file is."""

    class Bar:
        def __init__(self, *args: Any, total: int | None = None, initial: int = 0, **options: Any) -> None:
            self.n, self.total = initial, total

        def update(self, amount: int = 1) -> None:
            self.n += int(amount)
            report(self.n, self.total)

        def ignore(self, *args: Any, **options: Any) -> None:
            pass

        # bytes on the wire, which are not those of the file, and what only a visible bar has
        update_transfer = close = refresh = reset = set_description = set_postfix_str = ignore

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    return Bar
