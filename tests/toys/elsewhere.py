"""A pipeline whose data can only be seen on the cluster."""

from zoocast.errors import DataError

SUMMARY = "see what is not here"
PRESETS = {"laptop": dict}


def steps(config):
    raise DataError(f"/mnt/shared/{config.get('name', 'frames')}.npy cannot be read: No such file or directory")
