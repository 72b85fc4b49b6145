"""Every error this package raises on purpose.

```
ImageGSError
├── FormatError (also ValueError)   a .gsimg file that is not what its format says
│   ├── TruncatedError              it ends before its contents do
│   ├── VersionError                it is newer than this program
│   └── ChecksumError               its bytes were altered
├── ImageError                      a picture that cannot be read or written
├── ShapeError (also ValueError)    arrays that disagree in shape, kind or range
├── ConfigError (also ValueError)   settings that contradict each other or the picture
├── WeightsError                    weights of a model that are absent, damaged or of another model
└── DeviceError                     a device or module that is asked for and absent
    └── CompileError                a kernel that the device's compiler refuses
```
"""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/@\s]*@")


class ImageGSError(Exception):
    """Root of every error raised on purpose; its text is one line: where, expected, found."""


class FormatError(ImageGSError, ValueError):
    """A ``.gsimg`` file that is not what its format says."""


class TruncatedError(FormatError):
    """A ``.gsimg`` file that ends before its contents do."""


class VersionError(FormatError):
    """A ``.gsimg`` file written by a newer version of the format."""


class ChecksumError(FormatError):
    """A ``.gsimg`` file whose bytes do not match their checksum."""


class ImageError(ImageGSError):
    """A picture that cannot be read or written."""


class ShapeError(ImageGSError, ValueError):
    """Arrays that disagree in shape, kind or range."""


class ConfigError(ImageGSError, ValueError):
    """Settings that contradict each other or the picture."""


class DeviceError(ImageGSError):
    """A device or a compiled module that is asked for and absent."""


class CompileError(DeviceError):
    """A kernel that the device's compiler refuses.

    Attributes:
        log: what the compiler says, all of it.
        name: the source's file.
        options: of the compilation.
    """

    def __init__(self, log: str, name: str, options: tuple[str, ...]) -> None:
        self.log, self.name, self.options = log, name, options
        lines = [line for line in log.splitlines() if "error:" in line] or [log.strip() or "no log"]
        super().__init__(f"{name}: cannot be compiled for {', '.join(options)}: {lines[0].strip()}")


class WeightsError(ImageGSError):
    """Weights of a model that are absent, damaged or of another model."""


class ImageGSWarning(UserWarning):
    """Something works, but not as well as it could; the text says what to do."""


def without_user(text: str) -> str:
    """A text without the users' names and passwords of the URLs in it."""
    return _USER.sub("", text)


def one_line(error: object) -> str:
    """What an error or a warning says without line breaks, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: object) -> str:
    """The first line of what an error says that is not empty, or its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
