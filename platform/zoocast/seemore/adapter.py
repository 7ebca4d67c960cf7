"""The level-specific meta-adapter (LMA): one learning rate for each level of a network and each direction, learnt on the way.

Learning-rate calls alternate with weight calls. A learning-rate call tries one step ``theta' = theta - a_l u_l`` with Adam's
directions u_l, computes the loss that it leads to, and moves the rates a_l but no weight; a weight call takes such a step for
good. Since u_l does not depend on the rates, their gradient is exactly ``-<grad L(theta'), u_l>``: first order, no graph of a
gradient.

Its rival is hypergradient descent (Baydin et al., ICLR 2018): all calls are weight calls, each of which first moves the rates by
``-<grad L(theta_t), u_{l, t-1}>``, the gradient of its own loss by the rates of the step before it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from zoocast.config import check_ranges, setting
from zoocast.errors import ConfigError
from zoocast.training import Batch, Objective, TrainingConfig, Updater, Worker

__all__ = ["AdapterConfig", "MetaAdapter", "level_of"]


RELEASE_BOUND = 2e-4  # to which the release clamps every rate (core/models/meta.py)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """How the rates start, move and are held in order. At the default `initial_rate` all defaults do as the release does."""

    initial_rate: float = setting(1e-4, "of every level; release: 1e-4", above=0)
    meta_learning_rate: float = setting(1e-7, "of Adam on the rates, in units of a rate; release: 1e-7", above=0)
    lower_bound: float = setting(0.0, "of a rate, times the initial one; release: 0")
    upper_bound: float | Literal["release"] = setting(
        2.0, f"of a rate, times the initial one; release: a rate of {RELEASE_BOUND:g} whatever the initial one"
    )
    chain_ratio: float = setting(2.0, "by which a rate should exceed the one before it in the chain; release: 2", above=0)
    chain_weight: float = setting(10.0, "of the penalty on rates that do not, 0 is none; release: 10", at_least=0)
    chain_direction: Literal["upwards", "downwards"] = setting("upwards", "where rates should grow to; release: upwards")
    chain_members: Literal["cells", "cells-and-head"] = setting(
        "cells-and-head", "levels in the chain of each direction; release: cells-and-head"
    )
    cycle: int = setting(200, "iterations until learning-rate and weight calls repeat; release: 200")
    rate_iterations: int = setting(50, "of them for learning-rate calls; release: 50")
    first: Literal["rates", "weights"] = setting("rates", "which calls begin a cycle; release: rates")
    meta_batch: Literal["same", "held-out"] = setting(
        "same",
        "clips on which a trial step is judged: those that it was made from, or the batch's second half after a step made from"
        " its first; release: same",
    )
    parametrisation: Literal["linear", "logarithmic"] = setting(
        "linear", "what Adam moves: the rates, or their logarithms, scaled to move alike at the start; release: linear"
    )
    moments: Literal["private", "shared"] = setting(
        "private", "whether trial steps have gradient moments of their own or those of the weight calls; release: private"
    )
    method: Literal["meta", "hypergradient"] = setting(
        "meta",
        "what rates are moved by: trial steps, or in every iteration the last weight call's direction on the new gradient, which"
        " knows no cycle, meta_batch or moments; release: meta",
        added=True,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.upper_bound == "release":
            if not 0 <= self.lower_bound * self.initial_rate <= RELEASE_BOUND:
                raise ConfigError(
                    "lower_bound",
                    f"0 <= lower_bound * initial_rate <= {RELEASE_BOUND:g} must hold with upper_bound=release, but got"
                    f" {self.lower_bound} * {self.initial_rate:g}",
                )
        elif not 0 <= self.lower_bound <= 1 <= self.upper_bound:
            raise ConfigError(
                "lower_bound" if not 0 <= self.lower_bound <= 1 else "upper_bound",
                "0 <= lower_bound <= 1 <= upper_bound must hold, for they are times the initial rate, but got"
                f" {self.lower_bound} and {self.upper_bound}",
            )
        if not 0 <= self.rate_iterations < self.cycle:
            raise ConfigError(
                "rate_iterations",
                f"0 <= rate_iterations < cycle must hold, or no weight would ever change, but got {self.rate_iterations} and"
                f" {self.cycle}",
            )

    def moves_rates(self, iteration: int) -> bool:
        """Whether an iteration, counted from 0, is one of learning-rate calls.

        The release's first cycle is one iteration short, because it counts from 1; here all cycles are whole.
        """
        position = iteration % self.cycle
        return position < self.rate_iterations if self.first == "rates" else position >= self.cycle - self.rate_iterations


# Of `forward_objective.predictor.cells.0.base.conv.weight` the direction and the level, `forward` and `cells.0`. There is a
# direction in a `BidirectionalObjective` only, and `distillation` lies beside the predictor (see `TransferObjective`).
LEVEL = re.compile(r"(?:(forward|reverse)_objective\.)?(?:predictor\.)?(cells\.\d+|head|adapter|distillation)\.")


def level_of(name: str) -> str:
    """The level of an objective's parameter, after its direction if there are two: ``forward.cells.0``, ``distillation``.

    A cell's transfer gates and distillers belong to the cell; the projections of distillation are a level of their own.
    """
    match = LEVEL.match(name)
    if match is None:
        raise ValueError(f"parameter {name} belongs to no known level; levels are cells, head, adapter and distillation")
    return ".".join(part for part in match.groups() if part)


def _chain(levels: Sequence[str], config: AdapterConfig) -> tuple[list[int], list[int]]:
    """The pairs of levels of which the second's rate should exceed the first's, as two lists of places in `levels`."""
    lower, upper = [], []
    for direction in ("", "forward.", "reverse."):
        # More cells than there can be: names that are no level drop out below, and so do directions that are not there.
        members = [f"{direction}cells.{i}" for i in range(len(levels))]
        if config.chain_members == "cells-and-head":
            members.append(f"{direction}head")
        chain = [levels.index(name) for name in members if name in levels]
        if config.chain_direction == "downwards":
            chain.reverse()
        lower += chain[:-1]
        upper += chain[1:]
    return lower, upper


class _Moments:
    """Adam's running means of gradients and of their squares (Kingma & Ba 2015, with its usual constants)."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.count = 0
        self.first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in parameters.items()}

    # Not torch.optim.Adam: the direction is needed without a step, and another one for each kind of call.
    def add(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one more gradient of every parameter in."""
        self.count += 1
        for name, gradient in gradients.items():
            self.first[name].lerp_(gradient, 1 - 0.9)
            self.second[name].mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)

    def direction(self, name: str) -> Tensor:
        """u = m_hat / (sqrt(v_hat) + eps) of one parameter."""
        scale = (self.second[name] / (1 - 0.999**self.count)).sqrt_().add_(1e-8)
        return (self.first[name] / (1 - 0.9**self.count)).div_(scale)  # the quotient is new, so the mean itself stays

    def state(self) -> dict[str, Tensor]:
        out = {"count": torch.tensor(self.count)}
        out |= {f"first.{name}": value for name, value in self.first.items()}
        return out | {f"second.{name}": value for name, value in self.second.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.count = int(state["count"])
        for kind, held in (("first", self.first), ("second", self.second)):
            for name, value in held.items():
                value.copy_(state[f"{kind}.{name}"])


class MetaAdapter(Updater):
    """Weights by Adam with a learning rate per level, and those rates by Adam on the loss after a trial step, or the last one.

    Works with any objective whose parameters `level_of` knows, in one direction or two. `TrainingConfig.learning_rate`,
    `learning_rate_decay` and `Objective.rate_scales` are not used: the rates are what is learnt. Several workers average their
    gradients, of weights and of rates.

    Raises:
        ConfigError: the meta loss shall have clips of its own, but a worker's batch holds one clip.
    """

    def __init__(self, adapter: AdapterConfig, objective: Objective, config: TrainingConfig, worker: Worker) -> None:
        super().__init__(objective, config, worker)
        if adapter.meta_batch == "held-out" and config.batch_size // worker.world < 2:
            raise ConfigError("batch_size", "meta_batch=held-out halves each worker's batch, which then needs at least 2 clips")
        self.adapter = adapter
        # Not in DistributedDataParallel, of whose hooks autograd.grad calls none: workers begin alike because their seed is one,
        # and stay so because `_gradients` averages.
        self.parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        self.levels = tuple(dict.fromkeys(level_of(name) for name in self.parameters))
        self.places = {name: self.levels.index(level_of(name)) for name in self.parameters}
        self.lower, self.upper = _chain(self.levels, adapter)
        # What Adam moves; equal to the rates if these are linear in it.
        self.raw = torch.full((len(self.levels),), adapter.initial_rate, device=worker.device, requires_grad=True)
        # Of the rates alone; the weights are moved by hand, each at its level's rate.
        self.optimizer = torch.optim.Adam([self.raw], lr=adapter.meta_learning_rate)
        self.moments = _Moments(self.parameters)
        apart = adapter.method == "meta" and adapter.moments == "private"
        self.trial_moments = _Moments(self.parameters) if apart else self.moments
        # Of the loss and of the penalty by what Adam moves, from the last learning-rate call: the journal asks between calls.
        self.gradients = torch.zeros(2, len(self.levels), device=worker.device)

    @property
    def rates(self) -> Tensor:
        """The learning rate a_l of each of `levels`, (levels,)."""
        if self.adapter.parametrisation == "linear":
            return self.raw
        initial = self.adapter.initial_rate
        # At raw = initial both value and slope are those of the linear one, so meta_learning_rate means the same at the start.
        return initial * torch.exp(self.raw / initial - 1)

    def update(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """See `Updater.update`; a learning-rate call's terms are those after its trial step, with the penalty as ``chain``."""
        if self.adapter.method == "meta" and self.adapter.moves_rates(iteration):
            return self._move_rates(batch)
        return self._move_weights(batch)

    def _move_weights(self, batch: Batch) -> dict[str, Tensor]:
        terms, gradients = self._loss(batch)
        # Both kinds of call have the same terms, for the journal averages over all of a window.
        penalty = torch.zeros((), device=self.worker.device)
        if self.adapter.method == "hypergradient" and self.moments.count:  # the first step has none before it
            penalty = self._step_rates(gradients, self.moments)
        self.moments.add(gradients)
        with torch.no_grad():
            rates = self.rates
            for name, parameter in self.parameters.items():
                parameter.addcmul_(rates[self.places[name]], self.moments.direction(name), value=-1)
        return {**terms, "chain": penalty}

    def _move_rates(self, batch: Batch) -> dict[str, Tensor]:
        first, second = (batch, batch) if self.adapter.meta_batch == "same" else _halves(batch)
        self.trial_moments.add(self._loss(first)[1])  # running means, which go on from the last learning-rate call
        rates = self.rates
        # Directions are computed twice, for held they would take as much memory as the weights.
        trial = {
            name: (p.detach() - rates[self.places[name]].detach() * self.trial_moments.direction(name)).requires_grad_()
            for name, p in self.parameters.items()
        }
        # The objective with the trial weights in place of its own, which stay as they are. They are leaves, so what is
        # differentiated is L at theta', and no graph leads back through the step.
        with self.autocast():
            terms: dict[str, Tensor] = torch.func.functional_call(self.objective, trial, (second,))
        penalty = self._step_rates(self._gradients(terms, trial), self.trial_moments)
        return {name: value.detach() for name, value in {**terms, "chain": penalty}.items()}

    def _step_rates(self, gradients: Mapping[str, Tensor], moments: _Moments) -> Tensor:
        """Move the rates by Adam, given the gradient after a step in the directions of `moments`. Returns the chain's penalty."""
        rates = self.rates
        # d loss / d a_l = -<grad L(theta'), u_l>, summed over the parameters of the level (see the module).
        slopes = torch.zeros_like(rates)
        for name, gradient in gradients.items():
            slopes[self.places[name]] -= (gradient * moments.direction(name)).sum()
        penalty = self._penalty(rates)
        # The way from raw to rates is walked twice, for the penalty as well: hence the graph is kept.
        (data,) = torch.autograd.grad(rates, self.raw, slopes, retain_graph=True)
        (order,) = torch.autograd.grad(penalty, self.raw)
        self.gradients = torch.stack([data, order])
        self.raw.grad = data + order  # apart until here, for the journal shows which of the two moves a rate
        self.optimizer.step()
        self._clamp()
        return penalty.detach()

    def _loss(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms on a batch, and the gradient of their sum by every parameter, clipped."""
        with self.autocast():
            terms: dict[str, Tensor] = self.objective(batch)
        gradients = self._gradients(terms, self.parameters)
        if self.config.gradient_clip is not None:
            # What clip_grad_norm_ does, which wants the gradients in `.grad`.
            norm = torch.nn.utils.get_total_norm(gradients.values())
            for gradient in gradients.values():
                gradient.mul_((self.config.gradient_clip / (norm + 1e-6)).clamp(max=1.0))
        return {name: value.detach() for name, value in terms.items()}, gradients

    def _gradients(self, terms: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the sum of all terms, averaged over workers."""
        loss = torch.stack(list(terms.values())).sum()
        # Zeros for a parameter that these terms do not reach: it then stands still as soon as its moments have decayed.
        gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        if self.worker.world > 1:
            # In the order of the parameters, which is the same on all workers.
            for gradient in gradients:
                torch.distributed.all_reduce(gradient)
                gradient.div_(self.worker.world)
        return dict(zip(parameters, gradients, strict=True))

    def _penalty(self, rates: Tensor) -> Tensor:
        """The chain's ``w sum relu(ratio a_l - a_{l+1})``."""
        # (pairs,): positive where the upper level's rate is less than `chain_ratio` times the lower one's.
        excess = self.adapter.chain_ratio * rates[self.lower] - rates[self.upper]
        return self.adapter.chain_weight * torch.relu(excess).sum()

    def _clamp(self) -> None:
        low, high = self.adapter.lower_bound, self.adapter.upper_bound
        if high == "release":
            high = RELEASE_BOUND / self.adapter.initial_rate
        if self.adapter.parametrisation == "logarithmic":
            # raw = initial * (1 + log(rate / initial)): the inverse of `rates`, as a multiple of the initial rate.
            low, high = (1 + math.log(bound) if bound else -math.inf for bound in (low, high))
        with torch.no_grad():
            self.raw.clamp_(low * self.adapter.initial_rate, high * self.adapter.initial_rate)

    @property
    def step_size(self) -> str:
        """See `Updater.step_size`."""
        return f"adapter.initial_rate (now {self.adapter.initial_rate})"

    def state(self) -> dict[str, Tensor]:
        """See `Updater.state`."""
        out = {"raw": self.raw.detach(), "gradients": self.gradients}
        out |= {f"meta.{name}": value for name, value in self.optimizer.state[self.raw].items()}
        out |= {f"moments.{name}": value for name, value in self.moments.state().items()}
        if self.trial_moments is not self.moments:
            out |= {f"trial_moments.{name}": value for name, value in self.trial_moments.state().items()}
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Updater.load`."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v.to(self.worker.device) for k, v in state.items() if k.startswith(prefix)}

        with torch.no_grad():
            self.raw.copy_(state["raw"])
            self.gradients.copy_(state["gradients"])
        held = under("meta.")
        # Raw is Adam's only parameter; before the first learning-rate call it has no state yet.
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {0: held} if held else {}})
        self.moments.load(under("moments."))
        if self.trial_moments is not self.moments:
            self.trial_moments.load(under("trial_moments."))

    def metrics(self) -> dict[str, float]:
        """See `Updater.metrics`: each level's rate, and both parts of the gradient that moved it last (by what Adam moves)."""
        data, penalty = self.gradients
        named = {"rate": self.rates.detach(), "rate_data_gradient": data, "rate_penalty_gradient": penalty}
        return {
            f"{kind}/{level}": float(v) for kind, values in named.items() for level, v in zip(self.levels, values, strict=True)
        }


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    middle = len(batch.indices) // 2  # of this worker's part; an odd clip goes to the meta loss

    def part(which: slice) -> Batch:
        return batch._replace(indices=batch.indices[which], clips=batch.clips[which], feed=batch.feed[which])

    return part(slice(middle)), part(slice(middle, None))
