"""A pipeline of your own: the experiment of zoo-to-target on other data, which is not part of zoocast.

    pipelines plan docs.examples.rain -S sources.*.data.path=DAYS -S target.data.path=DAYS

with a folder of days as `radar.py` reads them. It is what `pipelines/zoo_to_target.py` is: SUMMARY, PRESETS and `steps`.
"""

from __future__ import annotations

import dataclasses

from docs.examples.radar import RadarConfig
from pipelines import zoo_to_target
from pipelines.zoo_to_target import ZooToTarget, steps

__all__ = ["PRESETS", "SUMMARY", "steps"]

SUMMARY = "does a zoo that has seen years of rain help where there are 64 clips of it?"


def laptop() -> ZooToTarget:
    """The networks and trainings of zoo-to-target's preset `nested`, on radar: sources with 1,000 clips, a target with 64."""
    digits = zoo_to_target.nested()
    sources = [dataclasses.replace(source, data=RadarConfig()) for source in digits.sources]
    return dataclasses.replace(
        digits,
        sources=tuple(dataclasses.replace(source, name=f"rain-{i}") for i, source in enumerate(sources, 1)),
        target=dataclasses.replace(digits.target, data=RadarConfig(train=64)),
    )


PRESETS = {"laptop": laptop}
