"""Finding a model in MLflow's registry and fetching its files, for those who use it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from zoocast.errors import ConfigError, InfrastructureError, last_line
from zoocast.tracking.backend import connect, locate, sqlite_file
from zoocast.tracking.server import KEY

__all__ = ["Version", "download", "find_version"]

MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class Version(NamedTuple):
    """A version of a registered model: the step that trained it, by its key, and where the files are."""

    key: str
    source: str
    uri: str


def find_version(root: Path, uri: str | None, model: str) -> Version:
    """The version that `model`, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``, names.

    Raises:
        ConfigError: it is written otherwise, or there is no such model.
        InfrastructureError: the server does not answer.
    """
    parts = MODEL.fullmatch(model)
    if parts is None:
        raise ConfigError("MODEL", f"of the registry is written models:/NAME@ALIAS or models:/NAME/VERSION, but got {model!r}")
    store = locate(root, uri)
    file = sqlite_file(store)
    if file is not None and not file.exists():
        raise ConfigError("MODEL", f"{model} cannot be looked up, for there is no {file}; give the server with --tracking-uri")
    client = connect(store)
    try:
        if parts["alias"]:
            found = client.get_model_version_by_alias(parts["name"], parts["alias"])
        else:
            found = client.get_model_version(parts["name"], parts["version"])
    except Exception as error:
        if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            known = ", ".join(sorted(each.name for each in client.search_registered_models())) or "none"
            raise ConfigError("MODEL", f"{model} is not in the registry of {store}; it has {known}") from None
        raise InfrastructureError(f"{store} does not answer: {last_line(error)}") from None
    return Version(found.tags.get(KEY, ""), found.source, store)


def download(version: Version, folder: Path) -> Path:
    """Fetch the files of `version` into `folder`, and say where they are.

    Raises:
        InfrastructureError: they cannot be fetched.
    """
    from mlflow.artifacts import download_artifacts

    try:
        return Path(download_artifacts(artifact_uri=version.source, dst_path=str(folder), tracking_uri=version.uri))
    except Exception as error:
        raise InfrastructureError(f"the files of the model cannot be fetched from {version.source}: {last_line(error)}") from None
