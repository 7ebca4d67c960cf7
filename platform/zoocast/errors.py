"""Everything zoocast raises on purpose, so that the command can print one line instead of a traceback.

    ZoocastError                    exit code 1
    |-- StepFailed                  1    a step of a pipeline failed
    |-- ConfigError                 2    a setting, or a combination of settings, that cannot work
    |-- DataError                   2    a file of the user's that cannot be read as what it claims to be
    |-- InfrastructureError         4    the cluster, the disk or a server is not what the work needs
    |   `-- OutOfMemory           4    an allocation failed, and would fail again
    |-- IntegrityError              5    something that zoocast wrote is damaged or was changed
    `-- Interrupted               130    the user asked to stop

A message names the thing, the value that was got, and what to do about it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

__all__ = [
    "ConfigError",
    "DataError",
    "InfrastructureError",
    "IntegrityError",
    "Interrupted",
    "OutOfMemory",
    "StepFailed",
    "ZoocastError",
    "did_you_mean",
    "last_line",
    "within",
]


class ZoocastError(Exception):
    """Base class. `exit_code` is what the `pipelines` command ends with."""

    exit_code = 1


class StepFailed(ZoocastError):
    """A step of a pipeline failed; the steps that need it were not run."""


class ConfigError(ZoocastError):
    """A setting that cannot work. `field` is its dotted path, relative to the config that raised it.

    Args:
        field: dotted path of the setting, for example ``training.learning_rate``; empty when the whole config is meant.
        message: the rule, the value that was got, and the remedy.
    """

    exit_code = 2

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)  # both, as an exception comes out of a worker's pickle by its arguments
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def under(self, parent: str) -> ConfigError:
        """The same error seen from the config that holds this one in its field `parent`."""
        return ConfigError(f"{parent}.{self.field}" if self.field else parent, self.message)


@contextlib.contextmanager
def within(field: str) -> Iterator[None]:
    """Let a `ConfigError` raised inside name its field from the config that holds it in `field`."""
    try:
        yield
    except ConfigError as error:
        raise error.under(field) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean X? `` with the nearest known names, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}? " if near else ""


class DataError(ZoocastError):
    """A file of the user's cannot be read as what it claims to be."""

    exit_code = 2


class InfrastructureError(ZoocastError):
    """The cluster is too small, the disk too full, or a server cannot be reached."""

    exit_code = 4


class OutOfMemory(InfrastructureError):
    """An allocation failed, or would: the same command meets it again, so a setting has to change."""


class IntegrityError(ZoocastError):
    """A file that zoocast wrote does not match its checksum or its manifest."""

    exit_code = 5


class Interrupted(ZoocastError):
    """The user asked to stop; work so far is kept in checkpoints."""

    exit_code = 130


def last_line(error: BaseException) -> str:
    """The last line of the error's text, in which Ray's long ones name the cause; the error's type when it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
