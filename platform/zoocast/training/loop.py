"""The one training loop: in a notebook, in a step, in a Ray Train worker, in a trial of a search.

It asks nothing of Ray or of a pipeline; what a step adds (a folder, a journal, the wish to stop) comes as `Surroundings`. The
order of the clips and the masks are functions of the seed and the iteration, so a training that was killed goes on to the same
bits.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from zoocast.config import digest
from zoocast.errors import Interrupted, StepFailed
from zoocast.evaluation import validation_error
from zoocast.nn.predictor import save_predictor
from zoocast.provenance import machine
from zoocast.tracking import Journal
from zoocast.training.checkpoint import TrainState
from zoocast.training.clips import Clips
from zoocast.training.config import TrainingConfig, Worker
from zoocast.training.objective import Batch, Objective
from zoocast.training.order import SampleOrder, feed
from zoocast.training.result import Trained
from zoocast.training.strip import prediction_strip
from zoocast.training.surroundings import Surroundings
from zoocast.training.updater import AdamUpdater, MakeUpdater
from zoocast.training.weights import MODEL_FOLDER, save_objective

__all__ = ["fit"]


def fit(
    objective: Objective | Callable[[], Objective],
    train: Clips,
    validation: Clips,
    *,
    observed: int,
    config: TrainingConfig = TrainingConfig(),  # noqa: B008
    worker: Worker = Worker(),  # noqa: B008
    surroundings: Surroundings = Surroundings(),  # noqa: B008
    make_updater: MakeUpdater = AdamUpdater,
    curriculum_offset: int = 0,
) -> Trained:
    """Train `objective`, and leave in it the weights that validate best.

    With a folder in `surroundings` the weights are left there too: the predictor in ``model/``, and what the objective has
    beyond it beside that (see `load_objective`).

    >>> objective = PredictionObjective(Predictor(PredictorConfig(), FrameShape()))  # doctest: +SKIP
    >>> fit(objective, clips_of(train), clips_of(validation), observed=10).val_mse  # doctest: +SKIP

    Args:
        objective: what is trained, or what makes it: called after the seed is set, so that the first weights are a function of
            the seed. Of what is made here only the folder keeps the weights.
        train: training clips, each (T, C, H, W).
        validation: clips for selection; read every `validate_every` iterations, observed frames only as input.
        observed: number of observed frames; the rest of a clip is the horizon.
        config: how long, how fast and on what.
        worker: this process among those that train the same network.
        surroundings: where to write, log and look for the wish to stop; an earlier attempt's checkpoints there are continued.
        make_updater: makes what changes the weights, once the objective is on its device.
        curriculum_offset: iterations of the sampling curriculum that an earlier training has been through.

    Returns:
        The same on every worker.

    Raises:
        Interrupted: the user asked to stop; a checkpoint was written.
        StepFailed: the loss, or what an update made of the weights, is not finite; the last checkpoint is from before.
        IntegrityError: a checkpoint is damaged.
        ValueError: neither an objective nor a folder was given, so the weights would be lost.
    """
    if surroundings.directory is None and not isinstance(objective, Objective):
        raise ValueError("the weights of this training would be lost; give fit an objective, or a folder in its surroundings")
    torch.manual_seed(config.seed)  # on every worker, so that all begin with the same weights
    trained = (objective if isinstance(objective, Objective) else objective()).to(worker.device)
    identity = surroundings.identity or digest(config)
    # The weights are on their device by now, and the updater makes its moments where they are.
    state = TrainState(make_updater(trained, config, worker), surroundings.directory, identity)
    if state.restore(worker.device) and worker.rank == 0:
        # What was logged after the checkpoint is logged again, and must not stand in MLflow twice.
        if surroundings.journal is not None:
            surroundings.journal.rewind(state.iteration)
        surroundings.progress(state.iteration / config.iterations, f"goes on from {state.iteration}/{config.iterations}")
    if surroundings.journal is not None and worker.rank == 0:
        surroundings.journal.params({f"machine.{name}": value for name, value in machine().items()})
    _Run(config, state, _Data(train, validation, observed), worker, surroundings, curriculum_offset).loop()
    # A loss can be finite with true frames as input while the network, fed its own predictions, diverges.
    if not state.best:
        raise StepFailed(
            f"{surroundings.name} never predicted finite frames of the validation split; lower {state.updater.step_size}"
        )
    trained.load_state_dict(state.best)
    if worker.rank == 0 and surroundings.directory is not None:
        surroundings.check_fence()  # an attempt that was overtaken must not write over its successor's model
        state.drop_older()
        save_predictor(trained.exported, surroundings.directory / MODEL_FOLDER)
        save_objective(trained, surroundings.directory)
        left = trained.leave(surroundings.directory)
        if surroundings.journal is not None and left:
            surroundings.journal.params(left)
    updates = config.iterations * (2 if config.reverse_input else 1)
    return Trained(
        iterations=config.iterations,
        best_iteration=state.best_iteration,
        val_mse=state.best_error,
        seconds=state.seconds,
        clips_per_second=updates * config.batch_size / max(state.seconds, 1e-9),
        num_workers=worker.world,
        threads=torch.get_num_threads(),
    )


class _Data(NamedTuple):
    train: Clips
    validation: Clips
    observed: int


class _Seen:
    """A loss on its way from the device; whether it is finite is asked an iteration later, so that no GPU is waited for."""

    def __init__(self, loss: Tensor) -> None:
        self._finite = loss.isfinite().to("cpu", non_blocking=True)
        # Of a copy that does not block nothing may be read before the event that follows it in the stream.
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
        config: TrainingConfig,
        state: TrainState,
        data: _Data,
        worker: Worker,
        surroundings: Surroundings,
        curriculum_offset: int,
    ) -> None:
        self.config, self.state, self.data, self.worker = config, state, data, worker
        self.surroundings, self.curriculum_offset = surroundings, curriculum_offset
        # Of the workers that train one network the first logs for all.
        self.journal = surroundings.journal if worker.rank == 0 else None
        self.previous: _Seen | None = None
        self.latest: _Seen | None = None
        # Pictures are drawn at validations: one that fell due after the last one is still to come.
        validated = state.iteration - state.iteration % config.validate_every
        self.drawn = validated * config.num_strips // config.iterations

    def loop(self) -> None:
        config, state = self.config, self.state
        order = SampleOrder(config.seed, len(self.data.train))
        # As if earlier attempts had ended just now: `seconds` counts training, and not the time between attempts.
        started = time.perf_counter() - state.seconds
        shown = 0.0
        while state.iteration < config.iterations:
            self._iterate(order.batch(state.iteration, config.batch_size, self.worker))
            self._require_finite(self.previous, state.iteration)  # on its way while this iteration was queued (see `_Seen`)
            state.iteration += 1
            last = state.iteration == config.iterations
            # Validation first, so that a checkpoint holds the best weights up to its own iteration.
            if last or state.iteration % config.validate_every == 0:
                self._validate()
            state.seconds = time.perf_counter() - started
            stopping = self._should_stop()
            if last or stopping or state.iteration % config.checkpoint_every == 0:
                self._checkpoint()
            if stopping and not last:  # at its end it has nothing left to stop
                raise Interrupted(f"{self.surroundings.name} stopped at iteration {state.iteration} of {config.iterations}")
            if self.worker.rank == 0 and state.seconds - shown > 0.25:
                shown = state.seconds
                # What falls comes first: of a long line in a narrow terminal the end is cut.
                error = f"val {state.best_error:.4g}, " if state.best else ""
                self.surroundings.progress(state.iteration / config.iterations, f"{error}{state.iteration}/{config.iterations}")

    def _iterate(self, indices: Tensor) -> None:
        config = self.config
        clips = self.data.train.clips(indices).to(self.worker.device, non_blocking=True)
        mask = feed(config, self.state.iteration, self.data.observed, clips.shape[1], self.worker, self.curriculum_offset)
        progress = self.state.iteration / config.iterations
        batch = Batch(indices, clips, mask.to(self.worker.device), False, progress)
        loss = self._update(batch)
        if config.reverse_input:
            loss = loss + self._update(batch.flipped())  # a second update, as the release does, and not a second term of one
        if self.worker.world > 1:
            # Workers must leave at the same iteration, or the others wait for ever in the next all-reduce. A sum is not finite
            # as soon as one part is not. Cloned, for all_reduce writes in place and `window` holds this very tensor.
            loss = loss.clone()
            torch.distributed.all_reduce(loss)
        self.previous, self.latest = self.latest, _Seen(loss)

    def _update(self, batch: Batch) -> Tensor:
        terms = self.state.updater.update(batch, self.state.iteration)
        loss = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": loss, **terms}.items():
            self.state.window.setdefault(name, []).append(value)
        return loss

    def _require_finite(self, seen: _Seen | None, iteration: int) -> None:
        if seen is not None and not seen.is_finite():
            if self.journal is not None:
                self.journal.metrics({"train/loss": math.nan}, step=iteration)  # MLflow's run then says where it ended
            self._diverged("loss", iteration)

    def _diverged(self, what: str, iteration: int) -> NoReturn:
        raise StepFailed(
            f"the {what} of {self.surroundings.name} is not finite at iteration {iteration};"
            f" lower {self.state.updater.step_size} or set training.gradient_clip"
        )

    def _validate(self) -> None:
        # No weights are selected after a loss that nobody has read yet.
        self._require_finite(self.latest, self.state.iteration)
        # The first worker's means, over its part of the clips: exact ones would cost a message for a curve to look at.
        means = {name: float(torch.stack(values).mean()) for name, values in self.state.window.items()}
        self.state.window.clear()
        # Every worker reads the whole split: they then agree on the best weights without a message.
        split, observed = self.data.validation, self.data.observed
        horizon = split.length - observed
        predict = functools.partial(self.state.objective.exported.predict, horizon=horizon)
        error = validation_error(predict, split, observed=observed, horizon=horizon)
        self.state.keep_if_best(error)
        if self.journal is not None:
            self.surroundings.check_fence()  # the journal belongs to whoever holds the folder
            values = {f"train/{k}": v for k, v in means.items()}
            self.journal.metrics({**values, "val/mse": error, **self.state.updater.metrics()}, step=self.state.iteration)
            self._draw(self.journal)
        if self.surroundings.on_validation is not None:
            self.surroundings.on_validation(self.state.iteration, error)

    def _draw(self, journal: Journal) -> None:
        """A picture of what the network makes of one validation clip, each time that another share of the work is done."""
        due = self.state.iteration * self.config.num_strips // self.config.iterations
        if due == self.drawn:
            return
        self.drawn = due
        clip = self.data.validation.clips([0])  # (1, T, C, H, W), the same each time, so that the pictures can be compared
        seen, truth = clip[:, : self.data.observed], clip[0, self.data.observed :]
        predicted = self.state.objective.exported.predict(seen, len(truth))[0].float().cpu()
        if not bool(predicted.isfinite().all()):  # clipped, it would look like black or white frames
            return
        picture = prediction_strip(seen[0].numpy(), truth.numpy(), predicted.clamp(0, 1).numpy())
        journal.image("val/strip", picture, step=self.state.iteration)

    def _checkpoint(self) -> None:
        self._require_finite(self.latest, self.state.iteration)
        if not self.state.is_finite():  # the loss was, but not what the update made of the weights
            self._diverged("state", self.state.iteration)
        if self.worker.rank == 0:
            self.surroundings.check_fence()  # a zombie of an earlier attempt must not write over its successor's state
            self.state.save()
            self.surroundings.push()

    def _should_stop(self) -> bool:
        if self.worker.world == 1:
            return self.surroundings.should_stop()
        # Workers must leave at the same iteration, or the others wait for ever in the next all-reduce.
        if self.state.iteration % 10:  # to read the flag below is to wait for all that the device has queued
            return False
        # The wish may reach some workers an iteration before the others: one that knows of it is enough for all.
        flag = torch.tensor([float(self.surroundings.should_stop())], device=self.worker.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item() > 0)
