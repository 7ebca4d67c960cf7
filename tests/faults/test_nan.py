"""A loss that is no number: training ends within one iteration, and the last checkpoint is from before."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.zoocast.bank.conftest import FRAMES, OBSERVED, save_source, write_clips
from zoocast.bank.distill import DistillationLoss
from zoocast.bank.read import BankConfig, open_bank
from zoocast.dag import StepContext
from zoocast.data.store import ClipStore
from zoocast.errors import StepFailed
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.nn.tmu import TmuConfig
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.tracking import curves
from zoocast.training import AdamUpdater, Batch, Objective, PredictionObjective, Surroundings, TrainingConfig, Worker, fit
from zoocast.transfer import TransferObjective

PLAIN = PredictorConfig(hidden_channels=(4,))
TRAINING = TrainingConfig(iterations=9, batch_size=2, validate_every=9, checkpoint_every=3, num_strips=1, reverse_input=False)
ADAPTER = AdapterConfig(cycle=4, rate_iterations=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), 8)


@pytest.fixture(scope="module")
def transfer(clips: Path) -> Callable[[], Objective]:
    source = save_source(clips.parent / "source", PLAIN)
    target = PredictorConfig(hidden_channels=(4,), tmu=TmuConfig(), num_sources=1)
    bank = open_bank(
        BankConfig(mode="online"),
        sources={"one": source},
        banks={},
        clips=clips,
        observed=OBSERVED,
        target=target,
    )

    def build() -> Objective:
        predictor = Predictor(target, FRAMES)
        return TransferObjective(predictor, 0.0, bank, DistillationLoss(predictor, bank), 1.0)

    return build


def plain() -> Objective:
    return PredictionObjective(Predictor(PLAIN, FRAMES), 0.0)


def both() -> Objective:
    return BidirectionalObjective(plain(), plain(), BidirectionalConfig())


def train(
    folder: Path,
    clips: Path,
    build: Callable[[], Objective],
    make_updater: Callable = AdamUpdater,
    worker: Worker = Worker(),  # noqa: B008
) -> None:
    store = ClipStore.open(clips)
    context = StepContext.standalone(folder, TRAINING)
    fit(
        build,
        store.split("train"),
        store.split("validation"),
        observed=OBSERVED,
        config=TRAINING,
        worker=worker,
        surroundings=Surroundings.of_step(context),
        make_updater=make_updater,
    )


class Poison:
    """Makes an objective's `term` NaN at the update numbered `at`, from 1, and counts updates."""

    def __init__(self, build: Callable[[], Objective], term: str, at: int) -> None:
        self.build, self.term, self.at, self.updates = build, term, at, 0

    def __call__(self) -> Objective:
        objective = self.build()
        objective.register_forward_hook(self.poison)
        return objective

    def poison(self, _: Objective, __: tuple[Batch], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        self.updates += 1
        return {**terms, self.term: terms[self.term] * torch.nan} if self.updates == self.at else terms


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "predictor.safetensors")


@pytest.mark.parametrize(
    ("kind", "term"), [("plain", "mse"), ("tmu", "distill"), ("seemore", "feature"), ("seemore", "reverse_mse")]
)
def test_training_ends_within_an_iteration_and_keeps_what_was_good(
    tmp_path: Path, clips: Path, transfer: Callable[[], Objective], kind: str, term: str
) -> None:
    build = {"plain": plain, "tmu": transfer, "seemore": both}[kind]
    poison = Poison(build, term, at=5)
    with pytest.raises(StepFailed, match=r"the loss of standalone is not finite at iteration 5; lower training\.learning_rate"):
        train(tmp_path / "poisoned", clips, poison)
    assert poison.updates <= 6
    assert [p.name for p in (tmp_path / "poisoned" / "checkpoints").iterdir()] == ["00000003"]
    (said,) = curves(tmp_path / "poisoned" / "journal.jsonl")["train/loss"]
    assert said[0] == 5
    assert said[1] != said[1]
    # Had it been a fault of the machine, the same training would go on from there to what it would have been.
    train(tmp_path / "poisoned", clips, build)
    train(tmp_path / "whole", clips, build)
    assert all(torch.equal(weights(tmp_path / "poisoned")[k], v) for k, v in weights(tmp_path / "whole").items())


def _one_of_two(rank: int, folder: Path, clips: Path, tell: Connection) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    build = Poison(plain, "mse", at=5) if rank == 1 else plain
    try:
        train(folder / str(rank), clips, build, worker=Worker(rank, 2))
    except StepFailed as error:
        tell.send(str(error))
    torch.distributed.destroy_process_group()


def test_all_workers_end_when_one_meets_a_nan(tmp_path: Path, clips: Path) -> None:
    start = multiprocessing.get_context("spawn")
    ours, theirs = zip(*(start.Pipe() for _ in range(2)), strict=True)
    workers = [start.Process(target=_one_of_two, args=(rank, tmp_path, clips, theirs[rank])) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        assert all(pipe.poll(120) for pipe in ours)
        said = {pipe.recv() for pipe in ours}
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert len(said) == 1
    assert "the loss of standalone is not finite at iteration 5" in said.pop()


def test_learning_rates_that_are_no_numbers_are_seen_as_well(tmp_path: Path, clips: Path) -> None:
    # Iterations 1, 2, 5 and 6 move rates, with two calls of the objective each, 3 and 4 weights: call 8 is in iteration 5.
    poison = Poison(both, "mse", at=8)
    with pytest.raises(StepFailed, match=r"not finite at iteration 5; lower adapter\.initial_rate"):
        train(tmp_path, clips, poison, functools.partial(MetaAdapter, ADAPTER))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000003"]


def test_weights_that_the_last_update_spoilt_are_not_saved(tmp_path: Path, clips: Path) -> None:
    class Spoils(AdamUpdater):
        def update(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
            terms = super().update(batch, iteration)
            if iteration == 5:  # the sixth, after which a checkpoint is due, and the loss of which was fine
                with torch.no_grad():
                    next(self.objective.parameters()).fill_(torch.inf)
            return terms

    with pytest.raises(StepFailed, match="the state of standalone is not finite at iteration 6"):
        train(tmp_path, clips, plain, Spoils)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000003"]
