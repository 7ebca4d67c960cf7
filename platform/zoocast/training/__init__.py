"""The one training loop, inside or outside a Ray Train worker, with full-state checkpoints.

What is trained is an `Objective`; how long and how fast is a `TrainingConfig`; where is a `WorkerConfig`. A run that was killed
ends with the same bits as one that was not, given the same number of workers and threads.
"""

from zoocast.training.config import TrainingConfig, Worker, WorkerConfig, use_threads
from zoocast.training.loop import MODEL_FOLDER, fit
from zoocast.training.objective import Batch, Objective, PredictionObjective, prediction_terms, telling
from zoocast.training.order import SampleOrder
from zoocast.training.workers import in_train_workers

__all__ = [
    "MODEL_FOLDER",
    "Batch",
    "Objective",
    "PredictionObjective",
    "SampleOrder",
    "TrainingConfig",
    "Worker",
    "WorkerConfig",
    "fit",
    "in_train_workers",
    "prediction_terms",
    "telling",
    "use_threads",
]
