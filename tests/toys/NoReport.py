"""The smallest pipeline: one step, which writes no file. Its module has a name that no folder of a run could have."""

import dataclasses

from zoocast.config import setting
from zoocast.dag import Step

SUMMARY = "one step"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    n: int = setting(1, "a number")


PRESETS = {"laptop": Config}


def count(context):
    return {"n": context.config.n, "words": {"few": True}}


def steps(config):
    return (Step("count", count, config),)
