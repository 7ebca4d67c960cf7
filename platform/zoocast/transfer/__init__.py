"""Train a target on its own few clips: from scratch, finetuned in one of several ways, or with TMU against a memory
bank.

All arms share data, iterations, sampling masks and evaluation; they differ in where the weights start and in one loss term.
What a target exports is a plain predictor: sources, bank and projections stay behind.
"""

from zoocast.transfer.bss import BSS, ShrinkingObjective
from zoocast.transfer.delta import Delta, DeltaObjective
from zoocast.transfer.finetune import Finetune
from zoocast.transfer.frames import FrameDistillation, FrameObjective
from zoocast.transfer.freeze import Freeze
from zoocast.transfer.joint import Joint, JointClips
from zoocast.transfer.l2sp import L2SP, AnchoredObjective
from zoocast.transfer.llrd import LayerDecay, LayerDecayObjective
from zoocast.transfer.method import BANK_FOLDER, Need, Setup, StartedMethod, TransferMethod
from zoocast.transfer.methods import Method
from zoocast.transfer.scratch import Scratch
from zoocast.transfer.soup import Soup
from zoocast.transfer.target import TargetConfig, TrainTargetConfig, setup_of, train_arm, train_target, train_target_in
from zoocast.transfer.tmu import Transfer, TransferObjective

__all__ = [
    "BANK_FOLDER",
    "BSS",
    "L2SP",
    "AnchoredObjective",
    "Delta",
    "DeltaObjective",
    "Finetune",
    "FrameDistillation",
    "FrameObjective",
    "Freeze",
    "Joint",
    "JointClips",
    "LayerDecay",
    "LayerDecayObjective",
    "Method",
    "Need",
    "Scratch",
    "Setup",
    "ShrinkingObjective",
    "Soup",
    "StartedMethod",
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
