"""A pipeline whose data can only be seen on the cluster."""

import dataclasses

from zoocast.config import setting
from zoocast.errors import DataError

SUMMARY = "see what is not here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elsewhere:
    name: str = setting("frames", "of the file")


PRESETS = {"laptop": Elsewhere}


def steps(config):
    raise DataError(f"/mnt/shared/{config.name}.npy cannot be read: No such file or directory")
