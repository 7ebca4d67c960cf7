"""Tuning: grids of equal size, trainings that are compared on validation, and the training with what was chosen."""

import dataclasses

import pytest
import torch

from zoocast.config import dump
from zoocast.dag import StepContext, ordered
from zoocast.data import DigitsConfig
from zoocast.errors import ConfigError, StepFailed
from zoocast.experiment import Target, TuningConfig, Zoo, choose_step, source_step, with_chosen
from zoocast.experiment.stages import BuildClipsConfig, build_clips
from zoocast.experiment.tuning import ChooseConfig, Tried, choose_point, train_chosen, try_point
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import PredictorConfig
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.transfer import L2SP, Finetune, Scratch, TargetConfig, Transfer, train_target, train_target_in
from zoocast.zoo import SourceConfig

DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=8, validation=4, test=2)
PREDICTOR = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(4,))
TRAINING = TrainingConfig(iterations=4, batch_size=4, learning_rate=3e-4, validate_every=2, checkpoint_every=4, num_strips=0)
TARGET = Target(config=TargetConfig(data=DATA, predictor=PREDICTOR, training=TRAINING), observed=3)
ZOO = Zoo(target=TARGET, sources={"one": source_step(SourceConfig(name="one", data=DATA), observed=3)})
GRID = TuningConfig()


def points(method, grid=GRID):
    return grid.points(ZOO.training("arm", method, TRAINING))


# ------------------------------------------------------------------------------------------------------------------ the grid


def test_every_arm_has_as_many_points_whatever_its_method_can_vary():
    methods = (Scratch(), Finetune(source="one"), L2SP(), Transfer(), Transfer(distillation_weight=0))
    assert {len(points(method)) for method in methods} == {6}


def test_points_are_factors_of_what_is_set():
    assert [*points(Scratch()).items()][:2] == [
        ("lr3e-5", {"training.learning_rate": 3e-5}),
        ("lr6e-5", {"training.learning_rate": 6e-5}),
    ]
    assert points(Transfer(distillation_weight=0.5))["lr9e-4.w0.15"] == {
        "training.learning_rate": 9e-4,
        "method.distillation_weight": 0.15,
    }
    assert points(L2SP(weight=0.01))["lr9e-5.w0.01"] == {"training.learning_rate": 9e-5, "method.weight": 0.01}
    # Without a weight there is none to vary: an arm that leaves the loss out must not get it back.
    assert "method.distillation_weight" not in points(Transfer(distillation_weight=0))["lr3e-4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": (1.0, 2.0)}, r"rates: must be 6, as many as weighted_rates x weights, .* but got 2"),
        ({"weights": (1.0, 1.0)}, r"weights: must be at least one factor, each once, but got 1.0, 1.0"),
        ({"weights": ()}, r"weights: must be at least one factor, each once, but got none"),
        ({"rates": (0.0,) * 6}, r"rates: must be above 0, but got"),
    ],
)
def test_a_grid_that_costs_one_arm_more_than_another_is_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        TuningConfig(**settings)


# ------------------------------------------------------------------------------------------------------------------- steps


def test_an_arm_is_tuned_by_other_seeds_than_it_is_trained_with():
    arm = ZOO.arm("l2-sp", L2SP(), 2, dataclasses.replace(GRID, seeds=2))
    steps = {step.name: step for step in ordered(arm.seeds)}
    tuned = [name for name in steps if name.startswith("tune.")]
    assert len(tuned) == 12
    assert {steps[name].config.config.training.seed for name in tuned} == {1000, 1001}
    assert [step.name for step in arm.seeds] == ["target.l2-sp.seed0", "target.l2-sp.seed1"]
    assert {step.inputs["choose"].name for step in arm.seeds} == {"choose.l2-sp"}
    assert steps["choose.l2-sp"].notes[0].startswith("12 trainings with seeds from 1000 on: lr9e-5.w0.003, lr9e-5.w0.01,")
    # How many seeds the report has is nothing to the choice.
    assert ZOO.arm("l2-sp", L2SP(), 5, dataclasses.replace(GRID, seeds=2)).seeds[0].key == arm.seeds[0].key
    assert ZOO.arm("l2-sp", L2SP(), 2).seeds[0].key != arm.seeds[0].key


def test_a_point_trains_in_one_process_where_the_arm_has_several():
    workers = WorkerConfig(num_workers=2, cpus_per_worker=3)
    several = dataclasses.replace(TARGET, config=dataclasses.replace(TARGET.config, workers=workers))
    (trained,) = dataclasses.replace(ZOO, target=several).arm("scratch", Scratch(), 1, GRID).seeds
    (point, *_) = trained.inputs["choose"].inputs.values()
    assert len(trained.launches) == 2
    assert (point.resources, point.launches) == (trained.launches[0], ())


# ------------------------------------------------------------------------------------------------------------------ choosing


def choose(folder, settings, errors):
    """What is chosen among points with these settings and, by seed, these errors."""
    tried = {
        f"{point}/{seed}": dump(Tried(val_mse=error, seconds=2.0))
        for point, seeds in errors.items()
        for seed, error in enumerate(seeds)
    }
    inputs = dict.fromkeys(tried, folder)
    return choose_point(StepContext.standalone(folder, ChooseConfig(points=settings), inputs, tried, name="choose.arm"))


def test_the_point_with_the_lowest_mean_is_chosen(tmp_path):
    settings = {f"lr{rate:g}": {"training.learning_rate": rate} for rate in (1.0, 2.0, 3.0)}
    chosen = choose(tmp_path, settings, {"lr1": (0.1, 0.5), "lr2": (0.2, 0.2), "lr3": (0.1, None)})
    assert (chosen.point, chosen.settings, chosen.val_mse) == ("lr2", {"training.learning_rate": 2.0}, 0.2)
    assert (chosen.edges, chosen.trainings, chosen.train_seconds, chosen.diverged) == ((), 6, 12.0, ("lr3",))


def test_a_value_on_the_edge_of_three_or_more_is_named(tmp_path):
    settings = {f"{rate}.{weight}": {"rate": rate, "weight": weight} for rate in (1.0, 2.0, 3.0) for weight in (0.1, 0.2)}
    errors = {point: (0.1 if point == "3.0.0.2" else 0.2,) for point in settings}
    assert choose(tmp_path, settings, errors).edges == ("rate",)


def test_nothing_is_chosen_where_all_diverged(tmp_path):
    with pytest.raises(
        StepFailed, match=r"^choose.arm has nothing to choose from, for all 1 points diverged; lower tuning.rates$"
    ):
        choose(tmp_path, {"lr1": {"rate": 1.0}}, {"lr1": (None,)})


# ------------------------------------------------------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    context = StepContext.standalone(tmp_path_factory.mktemp("tuning") / "data", BuildClipsConfig(data=DATA))
    build_clips(context)
    return context.directory


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_an_arm_is_trained_as_if_what_was_chosen_had_been_set(clips, tmp_path):
    def training(seed):
        return TARGET.train("target", train_target, ZOO.training("scratch", Scratch(), TRAINING.with_seed(seed)))

    chosen = choose_step("scratch", training, GRID)
    tried = {}
    for name, step in list(chosen.inputs.items())[:2]:
        context = StepContext.standalone(tmp_path / step.name, step.config, {"data": clips}, name=step.name)
        tried[name] = dump(try_point(context))
    assert len({found["val_mse"] for found in tried.values()}) == 2
    best = choose_point(
        StepContext.standalone(
            tmp_path / "choose",
            ChooseConfig(points={name.partition("/")[0]: chosen.config.points[name.partition("/")[0]] for name in tried}),
            dict.fromkeys(tried, tmp_path),
            tried,
        )
    )
    final = with_chosen(training(0), chosen)
    inputs = {"data": clips, "choose": tmp_path / "choose"}
    trained = train_chosen(StepContext.standalone(tmp_path / "final", final.config, inputs, {"choose": dump(best)}))
    rate = best.settings["training.learning_rate"]
    config = ZOO.training("scratch", Scratch(), dataclasses.replace(TRAINING, learning_rate=rate))
    context = StepContext.standalone(tmp_path / "directly", config, {"data": clips})
    assert trained.val_mse == train_target_in(context, config).val_mse


def test_a_point_that_diverges_is_an_outcome_and_no_failure(clips, tmp_path):
    def training(seed):
        wild = dataclasses.replace(TRAINING.with_seed(seed), learning_rate=1e30)
        return TARGET.train("target", train_target, ZOO.training("scratch", Scratch(), wild))

    step = next(iter(choose_step("scratch", training, GRID).inputs.values()))
    context = StepContext.standalone(tmp_path / "point", step.config, {"data": clips}, name=step.name)
    assert try_point(context).val_mse is None
