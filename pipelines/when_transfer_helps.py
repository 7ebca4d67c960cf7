"""When transfer helps: `zoo-to-target` for every relation of a zoo to its target and every number of training clips, as one map.

In each cell every arm is compared with the best finetune, which the validation split chose, and with training from scratch: the
map shows where TMU is worth its cost, where finetuning is enough, and where any transfer does harm.
"""

from __future__ import annotations

import dataclasses

from pipelines.zoo_to_target import PRESETS as ZOO_PRESETS
from pipelines.zoo_to_target import ZooToTarget
from zoocast.config import check_ranges, override, setting
from zoocast.dag import Step, ordered
from zoocast.data import DataConfig, DigitsConfig
from zoocast.errors import ConfigError, within
from zoocast.experiment import Cell, map_step
from zoocast.nn.sampling import ScheduledSampling
from zoocast.transfer import Finetune
from zoocast.zoo import SourceConfig

__all__ = ["PRESETS", "SUMMARY", "Relation", "WhenTransferHelps", "steps"]

SUMMARY = "where TMU beats the best finetune: a map of relations between zoo and target, and of training clips"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
    """What a zoo is to a target: some of the sources, and the target's clips."""

    name: str = setting(help="what the map calls it")
    sources: tuple[str, ...] = setting(help="of the zoo's sources, those that this target has")
    data: DataConfig | None = setting(None, "the target's clips, or none for those of zoo.target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WhenTransferHelps:
    """The whole experiment."""

    zoo: ZooToTarget = setting(
        help="all sources, and what every target shares: network, training, arms, and how often all is trained"
    )
    relations: tuple[Relation, ...] = setting(help="rows of the map")
    clips: tuple[int, ...] = setting((16, 64, 256, 1000), "columns of the map: how many clips a target trains on", at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        for field, values in (("clips", self.clips), ("relations", tuple(relation.name for relation in self.relations))):
            if not values or len({*values}) < len(values):
                got = ", ".join(map(str, values)) or "none"
                raise ConfigError(field, f"must be one or several, each once, but got {got}")
        known = [source.name for source in self.zoo.sources]
        for relation in self.relations:
            if missing := [name for name in relation.sources if name not in known]:
                raise ConfigError(
                    f"relations.{relation.name}.sources",
                    f"must be some of zoo.sources ({', '.join(known)}), but got {', '.join(missing)}",
                )

    def cell(self, relation: Relation, clips: int) -> ZooToTarget:
        """The experiment at one place of the map."""
        with within(f"relations.{relation.name}.data"):
            data = override(relation.data or self.zoo.target.data, {"train": clips})
        return dataclasses.replace(self.zoo.only(relation.sources), target=dataclasses.replace(self.zoo.target, data=data))

    def check(self) -> None:
        """Raise `ConfigError`, `DataError` or `IntegrityError` for what cannot work, before any work starts."""
        for relation in self.relations:
            for clips in self.clips:
                cell = self.cell(relation, clips)
                with within("zoo"):
                    cell.check()
                with within(f"relations.{relation.name}"):
                    self._check(cell)

    def _check(self, cell: ZooToTarget) -> None:
        methods = cell.methods()
        if "tmu" not in methods or not any(isinstance(method, Finetune) for method in methods.values()):
            raise ConfigError(
                "sources",
                "must hold one with the target's network, and the arms tmu and a finetune, which the map compares, but the arms"
                f" are {', '.join(methods)}",
            )
        length, test, data = self.zoo.target.data.length, self.zoo.target.data.counts()["test"], cell.target.data
        if (data.length, data.counts()["test"]) != (length, test):
            raise ConfigError(
                "data",
                f"must have the {length} frames and {test} test clips of zoo.target.data, for all cells stand on one map,"
                f" but got {data.length} and {data.counts()['test']}",
            )


def steps(config: WhenTransferHelps) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    cells = [_cell(config, relation, clips) for relation in config.relations for clips in config.clips]
    notes = [f"{relation.name}: sources {', '.join(relation.sources)}." for relation in config.relations]
    return ordered([map_step("When transfer helps", config, cells, notes=notes)])


def _cell(config: WhenTransferHelps, relation: Relation, clips: int) -> Cell:
    """The arms at one place; work that cells have in common is the same steps."""
    cell, name = config.cell(relation, clips), f"{relation.name}.{clips}"
    target = dataclasses.replace(cell.target_steps(), name=name)
    zoo = dataclasses.replace(cell.zoo_steps(), target=target, scope=name)
    arms = {arm: zoo.arm(f"{name}.{arm}", method, cell.seeds, cell.grid) for arm, method in cell.methods().items()}
    return Cell(relation=relation.name, clips=clips, target=target, arms=arms)


# --------------------------------------------------------------------------------------------------------------------- presets


def _map(zoo: ZooToTarget, clips: DigitsConfig, columns: tuple[int, ...]) -> WhenTransferHelps:
    """The four relations, with the settings of `zoo` but for its sources and clips.

    Args:
        zoo: whose first source's training all sources have.
        clips: of one digit that moves.
        columns: the numbers of clips.
    """
    kinds = {
        "move": clips,
        "turn": dataclasses.replace(clips, motions=("turn",), seed=2),
        "pulse": dataclasses.replace(clips, motions=("pulse",), seed=3),
        "fall": dataclasses.replace(clips, motions=("gravity",), glyphs="shapes", seed=4),
        "move-2": dataclasses.replace(clips, num_digits=2, seed=5),
    }
    predictor, pretraining = zoo.target.predictor, zoo.sources[0].training
    sources = tuple(
        SourceConfig(name=name, data=data, predictor=predictor, training=dataclasses.replace(pretraining, seed=data.seed))
        for name, data in kinds.items()
    )
    # Half of the clips move and half turn, so that of the complementary sources each knows one half.
    halves = dataclasses.replace(clips, motions=("move", "turn"), seed=6)
    three = dataclasses.replace(clips, num_digits=3, seed=7)
    return WhenTransferHelps(
        zoo=dataclasses.replace(zoo, sources=sources, target=dataclasses.replace(zoo.target, data=halves)),
        relations=(
            Relation(name="complementary", sources=("move", "turn")),
            Relation(name="mixed", sources=("move", "pulse")),
            Relation(name="unrelated", sources=("pulse", "fall")),
            # What the first source knows the second one knows as well, and the target goes beyond both.
            Relation(name="nested", sources=("move", "move-2"), data=three),
        ),
        clips=columns,
    )


def _sampling(iterations: int) -> ScheduledSampling:
    """From true frames to own predictions within so many iterations."""
    return ScheduledSampling(start=1.0, rate=1 / iterations, stop_iteration=iterations)


def laptop() -> WhenTransferHelps:
    """One digit of 14 pixels in frames of 32, of 14 frames 6 are seen; 300 iterations a training, 4 seeds, some 300 trainings."""
    zoo = ZOO_PRESETS["laptop"]()
    source = zoo.sources[0]
    # A network small enough for 300 trainings, and sources that are trained until they know their kind of clip well.
    pretraining = dataclasses.replace(source.training, iterations=2000, sampling=_sampling(800))
    small = dataclasses.replace(zoo.target.predictor, hidden_channels=(16, 16))
    zoo = dataclasses.replace(
        zoo,
        sources=(dataclasses.replace(source, training=pretraining),),
        target=dataclasses.replace(zoo.target, predictor=small),
        observed=6,
        seeds=4,
    )
    return _map(zoo, DigitsConfig(num_digits=1, length=14, train=2000, test=256, seed=1), (16, 64, 256, 1000))


def smoke() -> WhenTransferHelps:
    """Two relations and two sizes in their smallest form: shows that all works, and nothing about where transfer helps."""
    zoo = ZOO_PRESETS["smoke"]()
    clips = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=32, validation=8, test=8, seed=1)
    config = _map(zoo, clips, (8, 16))
    return override(config, {"relations": "complementary,mixed", "zoo.sources": "move,turn,pulse", "zoo.seeds": 1})


def full() -> WhenTransferHelps:
    """As `laptop`, but with 10 seeds and trainings three times as long: for a cluster, not run by us."""
    changes = {
        "zoo.seeds": 10,
        "zoo.target.training.iterations": 900,
        "zoo.target.training.sampling": _sampling(900),
        "zoo.sources.*.training.iterations": 6000,
        "zoo.sources.*.training.sampling": _sampling(2400),
    }
    return override(laptop(), changes)


PRESETS = {"smoke": smoke, "laptop": laptop, "full": full}
