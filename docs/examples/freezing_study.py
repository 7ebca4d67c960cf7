"""A pipeline of parts: the experiment of zoo-to-target with one arm more, whose method is your own.

pipelines plan docs.examples.freezing_study --preset smoke
"""

from __future__ import annotations

from docs.examples.freezing import Freezing
from pipelines import zoo_to_target
from pipelines.zoo_to_target import PRESETS, ZooToTarget
from zoocast.dag import Step, ordered
from zoocast.experiment import Comparison, report_step

__all__ = ["PRESETS", "SUMMARY", "steps"]

SUMMARY = "is it better to finetune everything, or to leave the lower layers as they are?"


def steps(config: ZooToTarget) -> tuple[Step, ...]:
    """All arms of zoo-to-target, and one that trains all but the lowest layer; what both have in common is done once."""
    config.check()
    zoo = config.zoo_steps()
    arms = [*zoo_to_target.arms(config, zoo), zoo.arm("freezing", Freezing(layers=1), config.seeds)]
    finetuned = tuple(f"finetune.{name}" for name in config.startable)
    headline = Comparison(ours=("freezing",), rival=finetuned, ours_words="freezing", rival_words="the best finetune")
    return ordered([report_step("freezing", config, zoo.target, arms, headline)])
