"""Networks by the names that people have for them: an arm of a run, a step, a registered model, a folder.

@last:ARM                       of the latest run; @last:tmu is its first seed, @last:tmu.seed1 the second
RUN:ARM                         of that run, or of a pipeline's latest one
target.tmu.seed0[-KEY]          a finished step; without a key the latest one of this name
models:/target-tmu@ready        of MLflow's registry; models:/target-tmu/3 by version
FOLDER                          of a step, or with a network in it, as `pipelines import` writes one
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoocast.cli.options import RUNS
from zoocast.errors import ConfigError, did_you_mean
from zoocast.store.address import address, local, open_root
from zoocast.store.layout import STEPS

if TYPE_CHECKING:
    import torch

    from zoocast.trained.model import TrainedModel

__all__ = ["MODEL_FORMS", "load"]

LAST, REGISTRY = "@last", "models:/"
MODEL_FORMS = "@last:ARM, RUN:ARM, a step, models:/NAME@ALIAS, or a folder"


def load(
    model: str | Path, *, root: str | Path = RUNS, tracking_uri: str | None = None, device: str | torch.device | None = None
) -> TrainedModel:
    """The trained network that `model` names, ready to predict.

    >>> import zoocast
    >>> tmu = zoocast.load("@last:tmu")
    >>> tmu.predict(clip, horizon=10).shape  # clip: (T, C, H, W) in the units of the data
    (10, 1, 32, 32)

    Args:
        model: ``@last:ARM``, ``RUN:ARM``, a step, ``models:/NAME@ALIAS``, or a folder.
        root: where the runs are, a folder or the URL of an object store.
        tracking_uri: the MLflow server of ``models:/``; else MLFLOW_TRACKING_URI, else SQLite under the root.
        device: where it computes; left out, the GPU where there is one.

    Raises:
        ConfigError: there is no such model; the message names those that there are.
        DataError: the folder holds no network.
        IntegrityError: its files are damaged.
        InfrastructureError: MLflow or the object store does not answer.
    """
    from zoocast.trained.model import open_model

    with _folder(str(model), open_root(root).folder, tracking_uri) as folder:
        return open_model(folder, device)


@contextlib.contextmanager
def _folder(model: str, root: Path, tracking_uri: str | None) -> Iterator[Path]:
    """The folder of what `model` names, which may be a temporary one."""
    if model.startswith(REGISTRY):
        from zoocast.tracking.registry import download, find_version

        version = find_version(root, tracking_uri, model)
        # Where the step itself is at hand it says more of the network than the registry does.
        if (known := _step_of_key(root, version.key)) is not None:
            yield known
            return
        with tempfile.TemporaryDirectory(prefix="zoocast-") as temporary:
            yield download(version, Path(temporary))
    elif Path(model).is_dir():
        yield Path(model)
    elif ":" in model:
        yield _of_run(root, *model.rsplit(":", 1))
    else:
        yield _of_step(root, model)


def _of_run(root: Path, run: str, arm: str) -> Path:
    from zoocast.cli.runs import find

    record = find(root, None if run == LAST else run)
    folders = {step["name"]: step["directory"] for step in record.steps}
    for name in (arm, f"target.{arm}", f"target.{arm}.seed0", f"source.{arm}"):
        if name in folders:
            return local(folders[name])
    trained = (name.removeprefix("target.") for name in folders if name.startswith(("target.", "source.")))
    arms = sorted({re.sub(r"\.seed\d+$", "", name) for name in trained})
    raise ConfigError(
        "MODEL", f"{record.run} has no arm {arm!r}; {did_you_mean(arm, arms)}it trained {', '.join(arms) or 'none'}"
    )


def _of_step(root: Path, name: str) -> Path:
    from zoocast.dag.records import latest, results

    if (folder := latest(root, name)) is not None:
        return folder
    near = did_you_mean(name, results(root))
    raise ConfigError("MODEL", f"there is no step, folder or model {name!r} under {address(root)}; {near}give {MODEL_FORMS}")


def _step_of_key(root: Path, key: str) -> Path | None:
    return next((root / STEPS).glob(f"*-{key}"), None) if key else None
