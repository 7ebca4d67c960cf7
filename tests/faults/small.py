"""The main pipeline, as small as it can be with every kind of step in it: Ray Train, a bank, a training, a report."""

from __future__ import annotations

import dataclasses

from pipelines.zoo_to_target import ZooToTarget, smoke
from zoocast.dag import Step, ordered
from zoocast.experiment import COPY_LAST, Comparison, report_step
from zoocast.training import TrainingConfig

SUMMARY = "zoo to target with one source, one seed, one arm and a checkpoint at every other iteration"


def small() -> ZooToTarget:
    """One source of the smoke test."""
    config = smoke()
    (source, _), target = config.sources, config.target
    return dataclasses.replace(
        config,
        sources=(dataclasses.replace(source, training=often(source.training)),),
        target=dataclasses.replace(target, training=often(target.training)),
        seeds=1,
        num_strips=1,
    )


def often(training: TrainingConfig) -> TrainingConfig:
    """`training` with many checkpoints."""
    return dataclasses.replace(training, iterations=20, validate_every=10, checkpoint_every=2, num_strips=1)


PRESETS = {"laptop": small}


def steps(config: ZooToTarget) -> tuple[Step, ...]:
    """The arm with transfer units, and the baseline that it has to beat."""
    zoo = config.zoo_steps()
    arms = (COPY_LAST, zoo.arm("tmu", config.transfer, config.seeds))
    against = Comparison(ours=("tmu",), rival=("copy-last",), ours_words="TMU", rival_words="the last frame")
    return ordered([report_step("small", config, zoo.target, arms, against)])
