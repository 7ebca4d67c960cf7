"""A pipeline that counts: small enough to test the command with real steps on a real Ray.

numbers -> square, cube -> report
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.config import setting
from zoocast.dag import Resources, Step
from zoocast.errors import ConfigError, DataError, Interrupted

if TYPE_CHECKING:
    from zoocast.dag import StepContext

SUMMARY = "count, square and cube"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerConfig:
    """One power to raise to."""

    name: str = setting("square", "which power this is")
    exponent: int = setting(2, "the power")
    seconds: float = setting(0.0, "how long the work takes")
    fault: str = setting("none", "what goes wrong: none, data, bug, killed (once), deaf (does not listen to the wish to stop)")
    cpus: int = setting(1, "CPUs of the step", identity=False)

    def __post_init__(self) -> None:
        if self.exponent < 1:
            raise ConfigError("exponent", f"must be at least 1, but got {self.exponent}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingConfig:
    """How far to count and what to do with the numbers."""

    count: int = setting(3, "how many numbers")
    powers: tuple[PowerConfig, ...] = setting((PowerConfig(), PowerConfig(name="cube", exponent=3)), "powers to raise to")


def laptop() -> CountingConfig:
    """Three numbers, at once."""
    return CountingConfig()


def smoke() -> CountingConfig:
    """One number, at once."""
    return CountingConfig(count=1)


PRESETS = {"smoke": smoke, "laptop": laptop}


def steps(config: CountingConfig) -> tuple[Step, ...]:
    """The graph in the module's docstring."""
    numbers = Step("numbers", write_numbers, config.count)
    powers = {
        power.name: Step(power.name, raise_to, power, {"numbers": numbers}, resources=Resources(power.cpus))
        for power in config.powers
    }
    return (numbers, *powers.values(), Step("report", write_report, None, powers))


def write_numbers(context: StepContext) -> dict[str, Any]:
    """The numbers 1..count."""
    return {"numbers": list(range(1, context.config + 1))}


def raise_to(context: StepContext) -> dict[str, Any]:
    """Each number to the configured power, taking `seconds` and listening to the wish to stop."""
    config: PowerConfig = context.config
    if config.fault == "data":
        raise DataError("numbers.txt has no numbers; count something first")
    if config.fault == "bug":
        raise ValueError("an unexpected thing")
    if config.fault == "killed" and not (before := context.directory / "killed").exists():
        before.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < config.seconds:
        context.progress(passed / config.seconds, f"{passed:.1f} s")
        if config.fault != "deaf" and context.should_stop():
            raise Interrupted("stopped while counting")
        time.sleep(0.02)
    return {"values": [number**config.exponent for number in context.results["numbers"]["numbers"]]}


def write_report(context: StepContext) -> dict[str, Any]:
    """What every pipeline's last step leaves: a page, a table and its data."""
    rows = [[name, sum(result["values"])] for name, result in context.results.items()]
    result = {"columns": ["power", "sum"], "rows": rows, "notes": ["sums are exact"], "headline": "cube is larger"}
    directory = Path(context.directory)
    (directory / "result.json").write_text(json.dumps(result))
    (directory / "table.md").write_text("| power | sum |\n")
    (directory / "report.html").write_text("<title>counting</title>")
    return result
