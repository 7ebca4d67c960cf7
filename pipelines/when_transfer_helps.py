"""When transfer helps: `zoo-to-target` for every relation of a zoo to its target and every number of training clips, as one map.

In each cell every arm is compared with the best finetune, which the validation split chose, and with training from scratch: the
map shows where TMU is worth its cost, where finetuning is enough, and where any transfer does harm.
"""

from __future__ import annotations

import dataclasses

from pipelines import zoo_to_target as whole
from zoocast.config import check_ranges, override, setting
from zoocast.dag import Step, ordered
from zoocast.data import DataConfig, DigitsConfig
from zoocast.errors import ConfigError, within
from zoocast.experiment import Cell, map_step

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

    zoo: whole.ZooToTarget = setting(
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

    def cell(self, relation: Relation, clips: int) -> whole.ZooToTarget:
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

    def _check(self, cell: whole.ZooToTarget) -> None:
        compared = whole.comparison(cell)
        if compared is None or compared.rival == ("scratch",):
            raise ConfigError(
                "sources",
                "must hold one with the target's network, and zoo.arms finetune and tmu, which the map compares, but the arms"
                f" are {', '.join(cell.methods())}",
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
    methods, compared = cell.methods(), whole.comparison(cell)
    assert compared is not None  # `check` has seen to it
    return Cell(
        relation=relation.name,
        clips=clips,
        target=target,
        arms={a: whole.zoo_of(a, zoo).arm(f"{name}.{a}", method, cell.seeds, cell.grid) for a, method in methods.items()},
        finetuned=compared.rival,
    )


# --------------------------------------------------------------------------------------------------------------------- presets


def _map(zoo: whole.ZooToTarget, clips: DigitsConfig, columns: tuple[int, ...]) -> WhenTransferHelps:
    """The four relations, with the settings of `zoo` but for its sources and clips.

    Args:
        zoo: whose first source's network and training all sources have.
        clips: of one digit that moves, for the first source.
        columns: the numbers of clips.
    """
    kinds = {
        "moving": clips,
        "turning": dataclasses.replace(clips, motions=("turn",), seed=2),
        "pulsing": dataclasses.replace(clips, motions=("pulse",), seed=4),
        "falling": dataclasses.replace(clips, motions=("gravity",), glyphs="shapes", seed=5),
        "moving-2": dataclasses.replace(clips, num_digits=2, seed=6),
    }
    first = zoo.sources[0]
    sources = tuple(
        dataclasses.replace(first, name=name, data=data, training=dataclasses.replace(first.training, seed=data.seed))
        for name, data in kinds.items()
    )
    # Half of the clips move and half turn, so that of the complementary sources each knows one half.
    halves = dataclasses.replace(clips, motions=("move", "turn"), test=zoo.target.data.counts()["test"], seed=3)
    return WhenTransferHelps(
        zoo=dataclasses.replace(zoo, sources=sources, target=dataclasses.replace(zoo.target, data=halves)),
        relations=(
            Relation(name="complementary", sources=("moving", "turning")),
            Relation(name="mixed", sources=("moving", "pulsing")),
            Relation(name="unrelated", sources=("pulsing", "falling")),
            # What the first source knows the second one knows as well, and the target goes beyond both.
            Relation(
                name="nested",
                sources=("moving", "moving-2"),
                data=dataclasses.replace(halves, motions=("move",), num_digits=3, seed=7),
            ),
        ),
        clips=columns,
    )


def laptop() -> WhenTransferHelps:
    """Network, rates and weights of `zoo-to-target`, whose sources are used again; 240 trainings, 3 seeds of each.

    By its trainings about half an hour on two CPU cores. More seeds leave what is done: `-S zoo.seeds=8`.
    """
    zoo = dataclasses.replace(
        whole.PRESETS["laptop"](), seeds=3, arms=("scratch", "finetune", "l2-sp", "continued", "tmu"), num_strips=1
    )
    clips = DigitsConfig(num_digits=1, length=14, subpixel=True, train=2000, seed=1)
    return _map(zoo, clips, (16, 64, 256, 1000))


def smoke() -> WhenTransferHelps:
    """Two relations and two sizes in their smallest form: shows that all works, and nothing about where transfer helps."""
    clips = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=32, validation=8, test=8, seed=1)
    config = _map(whole.PRESETS["smoke"](), clips, (8, 16))
    return override(config, {"relations": "complementary,mixed", "zoo.sources": "moving,turning,pulsing", "zoo.seeds": 1})


def full() -> WhenTransferHelps:
    """As `laptop`, but with every arm that `zoo-to-target` trains, each tuned, and 10 seeds: for a cluster, not run by us."""
    config = laptop()
    return dataclasses.replace(config, zoo=dataclasses.replace(config.zoo, arms=("all",), tune=True, seeds=10))


PRESETS = {"smoke": smoke, "laptop": laptop, "full": full}
