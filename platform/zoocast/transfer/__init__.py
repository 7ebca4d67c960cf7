"""Train a target on its own few clips: from scratch, finetuned, anchored to a source (L2-SP), or with TMU against a memory bank.

All arms share data, iterations, sampling masks and evaluation; they differ in where the weights start and in one loss term.
What a target exports is a plain predictor: sources, bank and projections stay behind.
"""

from zoocast.transfer.finetune import Finetune
from zoocast.transfer.l2sp import L2SP, AnchoredObjective
from zoocast.transfer.method import BANK_FOLDER, Need, Setup, TransferMethod
from zoocast.transfer.methods import Method
from zoocast.transfer.scratch import Scratch
from zoocast.transfer.target import TargetConfig, TrainTargetConfig, setup_of, train_arm, train_target, train_target_in
from zoocast.transfer.tmu import Transfer, TransferObjective

__all__ = [
    "BANK_FOLDER",
    "L2SP",
    "AnchoredObjective",
    "Finetune",
    "Method",
    "Need",
    "Scratch",
    "Setup",
    "TargetConfig",
    "TrainTargetConfig",
    "Transfer",
    "TransferMethod",
    "TransferObjective",
    "setup_of",
    "train_arm",
    "train_target",
    "train_target_in",
]
