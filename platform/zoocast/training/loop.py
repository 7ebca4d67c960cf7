"""The one training loop, inside or outside a Ray Train worker."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from zoocast.config import digest
from zoocast.dag import StepContext
from zoocast.data.store import ClipSplit
from zoocast.errors import Interrupted, StepFailed
from zoocast.evaluation import validation_error
from zoocast.nn.predictor import save_predictor
from zoocast.report.figures import prediction_strip
from zoocast.tracking import Journal
from zoocast.training.checkpoint import TrainState
from zoocast.training.config import TrainingConfig, Worker
from zoocast.training.objective import Batch, Objective
from zoocast.training.order import SampleOrder, feed
from zoocast.training.updater import AdamUpdater, MakeUpdater
from zoocast.training.weights import MODEL_FOLDER, save_objective

__all__ = ["fit"]


def fit(
    context: StepContext,
    config: TrainingConfig,
    build: Callable[[], Objective],
    train: ClipSplit,
    validation: ClipSplit,
    observed: int,
    worker: Worker,
    *,
    make_updater: MakeUpdater = AdamUpdater,
    on_validation: Callable[[int, float], None] | None = None,
    curriculum_offset: int = 0,
) -> dict[str, Any]:
    """Train what `build` makes and leave the weights that validate best in ``context.directory / "model"``.

    What an objective has beyond its predictor is left beside it; see `load_objective`.

    Args:
        context: where to write, log and look for the wish to stop; an earlier attempt's checkpoints there are continued.
        config: the training.
        build: makes the objective; called after the seed is set, so the weights are a function of the seed.
        train: training clips, each (T, C, H, W).
        validation: clips for selection; read every `validate_every` iterations, observed frames only as input.
        observed: number of observed frames; the rest of a clip is the horizon.
        worker: this process among those that train the same network.
        make_updater: makes what changes the weights, once the objective is on its device.
        on_validation: called with the iterations done and the validation error, after every reading of the validation split; what
            it raises ends the training. A run that goes on from a checkpoint calls it again for what lies behind the checkpoint.
        curriculum_offset: iterations of the sampling curriculum that an earlier training has been through.

    Returns:
        On every worker, JSON-able: iterations, best_iteration, val_mse (strict), seconds, clips_per_second.

    Raises:
        Interrupted: the user asked to stop; a checkpoint was written.
        StepFailed: the loss, or what an update made of the weights, is not finite; the last checkpoint is from before.
        IntegrityError: a checkpoint is damaged.
    """
    torch.manual_seed(config.seed)
    objective = build().to(worker.device)
    state = TrainState(make_updater(objective, config, worker), context.directory, digest(context.config))
    journal = Journal(context.journal_path)
    if state.restore(worker.device) and worker.rank == 0:
        journal.rewind(state.iteration)
        context.progress(state.iteration / config.iterations, f"goes on from {state.iteration}/{config.iterations}")
    run = _Run(context, config, state, train, validation, observed, worker, journal, on_validation, curriculum_offset)
    run.loop()
    if not state.best:
        raise StepFailed(f"{context.name} never predicted finite frames of the validation split; lower {state.updater.step_size}")
    if worker.rank == 0:
        objective.load_state_dict(state.best)
        context.check_fence()
        save_predictor(objective.predictor, context.directory / MODEL_FOLDER)
        save_objective(objective, context.directory)
    updates = config.iterations * (2 if config.reverse_input else 1)
    return {
        "iterations": config.iterations,
        "best_iteration": state.best_iteration,
        "val_mse": state.best_error,
        "seconds": state.seconds,
        "clips_per_second": updates * config.batch_size / max(state.seconds, 1e-9),
        "num_workers": worker.world,
        "threads": torch.get_num_threads(),
    }


class _Seen:
    """A loss on its way from the device; whether it is finite is asked an iteration later, so that no GPU is waited for."""

    def __init__(self, loss: Tensor) -> None:
        self._finite = loss.isfinite().to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if loss.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def is_finite(self) -> bool:
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._finite)


class _Run:
    """One process's part in training one network."""

    def __init__(
        self,
        context: StepContext,
        config: TrainingConfig,
        state: TrainState,
        train: ClipSplit,
        validation: ClipSplit,
        observed: int,
        worker: Worker,
        journal: Journal,
        on_validation: Callable[[int, float], None] | None,
        curriculum_offset: int,
    ) -> None:
        self.context, self.config, self.state, self.worker, self.journal = context, config, state, worker, journal
        self.train, self.validation, self.observed = train, validation, observed
        self.on_validation, self.curriculum_offset = on_validation, curriculum_offset
        self.window: list[dict[str, Tensor]] = []
        self.previous: _Seen | None = None
        self.latest: _Seen | None = None
        self.drawn = state.iteration * config.num_strips // config.iterations

    def loop(self) -> None:
        config, state = self.config, self.state
        order = SampleOrder(config.seed, len(self.train))
        started = time.perf_counter() - state.seconds
        told = 0.0
        while state.iteration < config.iterations:
            self._iterate(order.batch(state.iteration, config.batch_size, self.worker))
            self._require_finite(self.previous, state.iteration)
            state.iteration += 1
            last = state.iteration == config.iterations
            if last or state.iteration % config.validate_every == 0:
                self._validate()
            state.seconds = time.perf_counter() - started
            stopping = self._should_stop()
            if last or stopping or state.iteration % config.checkpoint_every == 0:
                self._checkpoint()
            if stopping and not last:
                raise Interrupted(f"{self.context.name} stopped at iteration {state.iteration} of {config.iterations}")
            if self.worker.rank == 0 and state.seconds - told > 0.25:
                told = state.seconds
                self.context.progress(state.iteration / config.iterations, f"{state.iteration}/{config.iterations}")

    def _iterate(self, indices: Tensor) -> None:
        config = self.config
        clips = self.train.clips(indices).to(self.worker.device, non_blocking=True)
        mask = feed(config, self.state.iteration, self.observed, clips.shape[1], self.worker, self.curriculum_offset)
        batch = Batch(indices, clips, mask.to(self.worker.device), False)
        loss = self._update(batch)
        if config.reverse_input:
            loss = loss + self._update(batch.flipped())
        if self.worker.world > 1:
            # Workers must leave at the same iteration, or the others wait for ever in the next all-reduce.
            loss = loss.clone()
            torch.distributed.all_reduce(loss)
        self.previous, self.latest = self.latest, _Seen(loss)

    def _update(self, batch: Batch) -> Tensor:
        terms = self.state.updater.update(batch, self.state.iteration)
        loss = torch.stack(list(terms.values())).sum()
        self.window.append({"loss": loss, **terms})
        return loss

    def _require_finite(self, seen: _Seen | None, iteration: int) -> None:
        if seen is not None and not seen.is_finite():
            if self.worker.rank == 0:
                self.journal.metrics({"train/loss": math.nan}, step=iteration)  # MLflow's run then says where it ended
            self._diverged("loss", iteration)

    def _diverged(self, what: str, iteration: int) -> NoReturn:
        raise StepFailed(
            f"the {what} of {self.context.name} is not finite at iteration {iteration};"
            f" lower {self.state.updater.step_size} or set training.gradient_clip"
        )

    def _validate(self) -> None:
        self._require_finite(self.latest, self.state.iteration)
        means = {k: float(torch.stack([w[k] for w in self.window]).mean()) for k in self.window[0]}
        self.window.clear()
        # Every worker reads the whole split: they then agree on the best weights without a message.
        predictor, horizon = self.state.objective.predictor, self.validation.length - self.observed
        predict = functools.partial(predictor.predict, horizon=horizon)
        error = validation_error(predict, self.validation, observed=self.observed, horizon=horizon)
        self.state.keep_if_best(error)
        if self.worker.rank == 0:
            self.context.check_fence()
            values = {f"train/{k}": v for k, v in means.items()}
            self.journal.metrics({**values, "val/mse": error, **self.state.updater.tell()}, step=self.state.iteration)
            self._draw()
        if self.on_validation is not None:
            self.on_validation(self.state.iteration, error)

    def _draw(self) -> None:
        """A picture of what the network makes of one validation clip, each time that another share of the work is done."""
        due = self.state.iteration * self.config.num_strips // self.config.iterations
        if due == self.drawn:
            return
        self.drawn = due
        clip = self.validation.clips([0])
        seen, truth = clip[:, : self.observed], clip[0, self.observed :]
        predicted = self.state.objective.predictor.predict(seen, len(truth))[0].float().cpu()
        picture = prediction_strip(seen[0].numpy(), truth.numpy(), predicted.clamp(0, 1).numpy())
        self.journal.image("val/strip", picture, step=self.state.iteration)

    def _checkpoint(self) -> None:
        self._require_finite(self.latest, self.state.iteration)
        if not self.state.is_finite():  # the loss was, but not what the update made of the weights
            self._diverged("state", self.state.iteration)
        if self.worker.rank == 0:
            self.context.check_fence()
            self.state.save()
            self.context.push()

    def _should_stop(self) -> bool:
        if self.worker.world == 1:
            return self.context.should_stop()
        # Workers must leave at the same iteration, or the others wait for ever in the next all-reduce.
        if self.state.iteration % 10:
            return False
        flag = torch.tensor([float(self.context.should_stop())], device=self.worker.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item() > 0)
