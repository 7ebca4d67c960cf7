"""The one training loop, inside or outside a Ray Train worker, with full-state checkpoints.

What is trained is an `Objective`, by an `Updater`; how long and how fast is a `TrainingConfig`; where is a `WorkerConfig`. A run
that was killed ends with the same bits as one that was not, given the same number of workers and threads.

A process that trains imports neither matplotlib nor scipy nor scikit-image: they are loaded where something is drawn or scored.
"""

from zoocast.training.clips import Clips, ClipsInMemory, clips_of
from zoocast.training.config import TrainingConfig, Worker, WorkerConfig, use_threads
from zoocast.training.loop import fit
from zoocast.training.objective import (
    Batch,
    Collect,
    Objective,
    PredictionObjective,
    collecting,
    prediction_terms,
    summary_params,
)
from zoocast.training.order import SampleOrder
from zoocast.training.result import Trained
from zoocast.training.searchable import TrainHere, train_here, trains_with
from zoocast.training.surroundings import OnValidation, Surroundings
from zoocast.training.updater import AdamUpdater, MakeUpdater, Updater
from zoocast.training.weights import MODEL_FOLDER, load_objective
from zoocast.training.workers import in_train_workers

__all__ = [
    "MODEL_FOLDER",
    "AdamUpdater",
    "Batch",
    "Clips",
    "ClipsInMemory",
    "Collect",
    "MakeUpdater",
    "Objective",
    "OnValidation",
    "PredictionObjective",
    "SampleOrder",
    "Surroundings",
    "TrainHere",
    "Trained",
    "TrainingConfig",
    "Updater",
    "Worker",
    "WorkerConfig",
    "clips_of",
    "collecting",
    "fit",
    "in_train_workers",
    "load_objective",
    "prediction_terms",
    "summary_params",
    "train_here",
    "trains_with",
    "use_threads",
]
