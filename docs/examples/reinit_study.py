"""A pipeline of parts: the experiment of zoo-to-target with one arm more, whose method is your own.

pipelines plan docs.examples.reinit_study --preset smoke
"""

from __future__ import annotations

from docs.examples.reinit import Reinit
from pipelines import zoo_to_target
from pipelines.zoo_to_target import PRESETS, ZooToTarget
from zoocast.dag import Step, ordered
from zoocast.experiment import Comparison, report_step

__all__ = ["PRESETS", "SUMMARY", "steps"]

SUMMARY = "is it better to start from all of a source, or to begin its uppermost layer anew?"


def steps(config: ZooToTarget) -> tuple[Step, ...]:
    """All arms of zoo-to-target, and one whose uppermost layer begins at random; what both have in common is done once."""
    config.check()
    zoo = config.zoo_steps()
    arms = [*zoo_to_target.arms(config, zoo), zoo.arm("reinit", Reinit(layers=1), config.seeds)]
    finetuned = tuple(f"finetune.{name}" for name in config.startable)
    headline = Comparison(ours=("reinit",), rival=finetuned, ours_words="reinit", rival_words="the best finetune")
    return ordered([report_step("reinit", config, zoo.target, arms, headline)])
