"""What turns a batch into changed weights, and owns all that this takes between batches: the loop's only idea of optimisers."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zoocast.training.config import TrainingConfig, Worker
from zoocast.training.objective import Batch, Objective

__all__ = ["AdamUpdater", "MakeUpdater", "Updater"]


class Updater(abc.ABC):
    """Abstract: changes the parameters of `objective`, one batch at a time."""

    def __init__(self, objective: Objective, config: TrainingConfig, worker: Worker) -> None:
        self.objective, self.config, self.worker = objective, config, worker

    @abc.abstractmethod
    def update(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """One update, whose batch is this worker's part. Returns the weighted loss terms before it, detached scalars.

        `iteration` counts from 0; with `TrainingConfig.reverse_input` two updates share one.
        """

    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that decides how the next updates come out, but for the objective's own weights."""

    @abc.abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, on whatever device it lies."""

    @property
    @abc.abstractmethod
    def step_size(self) -> str:
        """The setting that makes its steps smaller, and its value, for messages."""

    def metrics(self) -> dict[str, float]:
        """What the journal should hold of the updater at each validation, by metric name."""
        return {}

    def autocast(self) -> torch.autocast:
        """The precision in which the objective runs."""
        # bfloat16 has float32's range, so no gradient underflows and nothing has to be scaled.
        device = self.worker.device.split(":")[0]
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bfloat16")


MakeUpdater = Callable[[Objective, TrainingConfig, Worker], Updater]


class AdamUpdater(Updater):
    """Adam with one learning rate for everything, but for what `Objective.rate_scales` says."""

    def __init__(self, objective: Objective, config: TrainingConfig, worker: Worker) -> None:
        super().__init__(objective, config, worker)
        scales, groups = objective.rate_scales(), dict[float, list[nn.Parameter]]()
        for parameter in objective.parameters():
            if parameter.requires_grad:
                groups.setdefault(scales.get(parameter, 1.0), []).append(parameter)
        self.optimizer = torch.optim.Adam(
            [{"params": group, "lr": scale * config.learning_rate} for scale, group in groups.items()], fused=True
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]  # before they decay
        self.module: nn.Module = objective
        if worker.world > 1:
            # It averages gradients during the backward pass, and wants every parameter to be in every loss.
            self.module = nn.parallel.DistributedDataParallel(objective)

    def update(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """See `Updater.update`."""
        if self.config.learning_rate_decay == "linear":  # from the iteration alone, so that a resumed training has it as well
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 - iteration / self.config.iterations)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            terms: dict[str, Tensor] = self.module(batch)
        # One backward pass of the sum: after two of one forward pass DDP's gradients are wrong, without an error.
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if self.config.gradient_clip is not None:
            # By now the gradients are the workers' mean, so all of them clip by one norm.
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    @property
    def step_size(self) -> str:
        """See `Updater.step_size`."""
        return f"training.learning_rate (now {self.config.learning_rate})"

    def state(self) -> dict[str, Tensor]:
        """See `Updater.state`."""
        # By each parameter's place: step, exp_avg, exp_avg_sq. The rest of Adam's state_dict are settings.
        moments = self.optimizer.state_dict()["state"]
        return {f"{index}.{name}": value for index, held in moments.items() for name, value in held.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Updater.load`."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value.to(self.worker.device)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
