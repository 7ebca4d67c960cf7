"""What a method of transfer is: settings, the inputs that it needs, and the objective that it makes of them.

Everything that the rest of the platform asks of a method is asked here, so a new one is one file with one class, and its name in
`zoocast.transfer.methods`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from zoocast.bank.config import BankConfig
from zoocast.bank.read import MemoryBank, open_bank
from zoocast.config import check_ranges, setting
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, read_description, warm_start
from zoocast.training import MODEL_FOLDER, Clips, Objective, TrainingConfig
from zoocast.zoo import load_source

__all__ = ["BANK_FOLDER", "Need", "Setup", "StartedMethod", "TransferMethod"]

BANK_FOLDER = "bank"

Need = Literal["rank", "sources", "clips", "banks", "frames"]
"""Beside the target's clips a training may read the ranking of the sources, their networks, their clips, and their memories.

``frames``, beside ``banks``: the bank also holds the frames that the sources predict.
"""


@dataclasses.dataclass(kw_only=True)
class Setup:
    """What a method makes an objective of: the target's network and clips, and what it needs of the zoo.

    Attributes:
        predictor: the target's network, before transfer units are put in.
        frames: of the target's clips.
        decouple_weight: see `TrainingConfig`.
        observed: frames of a clip that a free-running source sees.
        clips: folder of the target's clip store.
        sources: the folders of those sources that are read, by name.
        names: of all sources, in the order of the transfer units.
        best: the source to start from where the method names none; None if there is no ranking, or no source fits the target.
        fitting: those of the sources whose weights fit the target; none if there is no ranking.
        bank: which memories are distilled; None without distillation.
        banks: the folders of the steps that stored them, by the source; none if they are computed online.
        device: where the memories are wanted.
    """

    predictor: PredictorConfig
    frames: FrameShape
    decouple_weight: float
    observed: int
    clips: Path
    sources: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()
    best: str | None = None
    fitting: tuple[str, ...] = ()
    bank: BankConfig | None = None
    banks: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    device: str = "cpu"
    # Set by `open_bank`, the one reason why this dataclass is not frozen.
    _opened: MemoryBank | None = dataclasses.field(default=None, init=False, repr=False)

    def start(self, predictor: Predictor, source: str = "") -> None:
        """Give `predictor` the weights of `source`, or of the best one.

        Raises:
            ConfigError: no source has the target's architecture, or this one has another.
        """
        chosen = source or self.best
        if chosen is None:
            raise ConfigError(
                "target.predictor", "no source has the target's architecture, so there are no weights to start from"
            )
        # Copied, so the source itself is free again after this line.
        warm_start(predictor, load_source(self.sources[chosen]))

    def open_bank(self, target: PredictorConfig) -> MemoryBank | None:
        """The memories that `target`, a network with transfer units, distils; None without distillation.

        Opened once: both directions of one training read the same.
        """
        if self.bank is not None and self._opened is None:
            self._draw_as_sources()
            self._opened = open_bank(
                self.bank,
                # In the order of the transfer units: unit m is compared with the memories of the m-th source.
                sources={name: self.sources[name] / MODEL_FOLDER for name in self.names},
                banks={name: folder / BANK_FOLDER for name, folder in self.banks.items()},
                clips=self.clips,
                observed=self.observed,
                target=target,
                device=self.device,
            )
        return self._opened

    def _draw_as_sources(self) -> None:
        """Draw the random numbers that initialising the sources takes.

        A bank once loaded its networks, and whatever is initialised after it (projections, BDN's reverse network) came out of the
        generator behind them. Nothing needs them any more, but the same seed shall go on giving the same bits.
        """
        for name in self.names:
            source = read_description(self.sources[name] / MODEL_FOLDER)
            for frames in dict.fromkeys((source.frames, self.frames)):
                Predictor(source.config, frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferMethod(abc.ABC):
    """Abstract: how one arm's training starts and what it is trained by. Subclasses are frozen dataclasses of settings."""

    kind: ClassVar[str]
    """Its name, as in `-S method=KIND` and in MLflow."""

    has_units: ClassVar[bool] = False
    """Whether its network has a transfer unit for each source, so that the sources' names and order belong to it."""

    weight_field: ClassVar[str] = ""
    """The setting that weighs its own part of the loss, which is tuned together with the learning rate; empty for none."""

    learning_rate: float | None = setting(
        None, "of its arm, where arms train in one stage; none: that of the target's training", added=True, above=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> frozenset[Need]:
        """What its training reads beside the target's clips."""
        return frozenset()

    def reads(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Those of `sources` whose networks it needs."""
        return tuple(sources) if "sources" in self.needs else ()

    def network(self, predictor: PredictorConfig, num_sources: int) -> PredictorConfig:  # noqa: ARG002
        """The network that is trained where arms without transfer train `predictor`."""
        return predictor

    def check(self, predictor: PredictorConfig, training: TrainingConfig) -> None:  # noqa: B027, most settings fit every target
        """Raise `ConfigError`, by the setting's name, for what cannot work with this network and training of the target."""

    def clips(self, target: Clips, sources: Sequence[Clips]) -> Clips:  # noqa: ARG002
        """What is trained on, of the target's clips and those of the sources; the latter are there where ``clips`` is needed."""
        return target

    @abc.abstractmethod
    def build(self, setup: Setup) -> Objective:
        """A new objective; called once the seed is set, for each direction of a training."""

    def unstarted(self) -> TransferMethod:
        """The method without its own start, for a training that goes on from an earlier one, which has overwritten it.

        One that needs its start for more than the first weights returns itself.
        """
        return self

    def params(self) -> dict[str, str | float]:
        """What MLflow should show of its settings."""
        return {}


class StartedMethod(TransferMethod):
    """Abstract: a method that starts from the source that predicts the validation clips best."""

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`: all sources' weights, for the best is known only when they are there."""
        return frozenset({"rank", "sources"})

    def started(self, setup: Setup) -> Predictor:
        """A new network with the weights of the best source."""
        # The random weights are drawn although they are replaced: the generator then goes on as in the other arms.
        predictor = Predictor(setup.predictor, setup.frames)
        setup.start(predictor)
        return predictor
