"""Libraries that only some formats need: imported where such a file is read, named with their command where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from zoocast.errors import ConfigError

__all__ = ["require"]


def require(module: str, *, extra: str, what: object) -> ModuleType:
    """The module, imported.

    Args:
        module: its name, "h5py".
        extra: the optional dependencies of zoocast that bring it, "h5".
        what: the file, or kind of file, that needs it.

    Raises:
        ConfigError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            "", f"{what} is read by {module}, which is not here ({error}); pip install 'zoocast[{extra}]'"
        ) from error
