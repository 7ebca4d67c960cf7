"""An objective's weights at rest, for a training that starts where another ended.

A predictor alone is in ``model/`` already. What an objective has beyond it (a reverse network, projections) would be lost there,
so such an objective leaves all its weights in one more safetensors file, and last a JSON file with its checksum.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
from torch import Tensor

from zoocast.errors import ConfigError, IntegrityError
from zoocast.nn.predictor import load_predictor
from zoocast.store.files import write_atomically
from zoocast.store.recorded import check_file
from zoocast.store.sealed import read_sealed, write_sealed
from zoocast.training.objective import Objective

__all__ = ["MODEL_FOLDER", "load_objective", "save_objective"]

MODEL_FOLDER = "model"
WEIGHTS = "objective.safetensors"
CHECKSUM = "objective.json"


def _is_predictor_alone(objective: Objective) -> bool:
    # An objective's weights include its predictor's, under longer names, so equal numbers mean that there are no others.
    return len(objective.state_dict()) == len(objective.exported.state_dict())


def save_objective(objective: Objective, directory: Path) -> None:
    """Write all weights into `directory`, unless the predictor has them all."""
    if _is_predictor_alone(objective):
        return
    weights = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in objective.state_dict().items()})
    write_atomically(directory / WEIGHTS, weights)
    write_sealed(directory / CHECKSUM, {"sha256": hashlib.sha256(weights).hexdigest()})


def load_objective(objective: Objective, directory: Path) -> None:
    """Give `objective` the weights that a finished training left in `directory`.

    An objective that is a predictor alone takes the one in ``model/``, whatever else the training had.

    Raises:
        ConfigError: the training had another network, or other weights than the objective has.
        IntegrityError: a file is missing or damaged.
    """
    predictor = load_predictor(directory / MODEL_FOLDER)
    if (predictor.config, predictor.frames) != (objective.exported.config, objective.exported.frames):
        raise ConfigError(
            "", f"{directory} holds another network ({predictor.config}, {predictor.frames}) than is to be trained on"
        )
    if _is_predictor_alone(objective):
        objective.exported.load_state_dict(predictor.state_dict())
        return
    weights = _read(directory) if (directory / CHECKSUM).exists() else {}
    # Either way round: weights that would stay random are as wrong as weights that would be left out.
    if differ := sorted(objective.state_dict().keys() ^ weights.keys()):
        what = f"weights that do not fit ({differ[0]})" if weights else "a predictor and nothing beside it"
        raise ConfigError("", f"{directory} holds {what}; go on with the method and the directions of that training")
    objective.load_state_dict(weights)


def _read(directory: Path) -> dict[str, Tensor]:
    path = directory / WEIGHTS
    recorded = read_sealed(
        check_file(directory / CHECKSUM), lambda data: data["sha256"], remedy="run its step with --force", follow_links=True
    )
    # Read once, then compared in memory: a file could change between its check and its use.
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be used: {error}; run its step with --force") from None
    if hashlib.sha256(weights).hexdigest() != recorded:
        raise IntegrityError(f"{path} cannot be used: its checksum is not the one in {CHECKSUM}; run its step with --force")
    return safetensors.torch.load(weights)
