"""Which source helps a target and which one harms it: `zoo-to-target` with all sources, with each left out, with each alone."""

from __future__ import annotations

import dataclasses

from pipelines import zoo_to_target as whole
from zoocast.config import override
from zoocast.dag import Step, ordered
from zoocast.errors import ConfigError
from zoocast.experiment import SourceMatrix, leave_one_out, report_step

SUMMARY = "which source of a zoo helps the target and which one harms it: each left out, and each alone"


def steps(config: whole.ZooToTarget) -> tuple[Step, ...]:
    """The experiment as a graph; what it has in common with `zoo-to-target` are the same steps as there."""
    config.check()
    if "tmu" not in config.arms:
        raise ConfigError("arms", f"must hold tmu, of which sources are left out, but got {', '.join(config.arms)}")
    zoo, used = config.zoo_steps(), {"tmu": tuple(source.name for source in config.sources)}
    compared, against = whole.arms(config, zoo), whole.comparison(config)
    for subset, names in leave_one_out(zoo.sources).items():
        config.only(names).check_transfer()  # what works with all sources may not without the one that fits the target
        used[f"tmu.{subset}"] = names
        compared.append(zoo.only(names, scope=subset).continued.arm(f"tmu.{subset}", config.transfer, config.seeds, config.grid))
    matrix = SourceMatrix(sources=used["tmu"], arms=used, reference="tmu")
    return ordered([report_step("leave one source out", config, zoo.target, compared, against, sections=[matrix])])


def smoke() -> whole.ZooToTarget:
    """Every step in its smallest form, in a minute or two: shows that all works, and nothing about which source helps."""
    return whole.smoke()


def laptop() -> whole.ZooToTarget:
    """A third source, whose digits hardly move: without `digits-2` strict/mse rises by 0.0019; ten minutes after
    `zoo-to-target --preset nested`.
    """
    zoo = whole.nested()
    still = override(zoo.sources[1], {"name": "still", "data.min_speed": 0.01, "data.max_speed": 0.02})
    return dataclasses.replace(zoo, sources=(*zoo.sources, still))


PRESETS = {"smoke": smoke, "laptop": laptop}
