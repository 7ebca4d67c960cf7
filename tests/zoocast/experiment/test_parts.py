"""The parts of experiments, put together without running anything: what steps share, what they are called, what is refused."""

import dataclasses

import numpy as np
import pytest

from zoocast.dag import Resources, ordered
from zoocast.data import DigitsConfig, MovingMnistConfig
from zoocast.errors import ConfigError
from zoocast.experiment import (
    COPY_LAST,
    Arm,
    Comparison,
    EvaluationConfig,
    SourceMatrix,
    Target,
    Zoo,
    leave_one_out,
    report_step,
    source_step,
)
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.transfer import Finetune, Scratch, TargetConfig, Transfer, train_target
from zoocast.zoo import SourceConfig

DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=8, validation=4, test=2)
TARGET = Target(config=TargetConfig(data=DATA), observed=3)
SOURCES = {
    name: source_step(SourceConfig(name=name, data=dataclasses.replace(DATA, seed=seed)), observed=3)
    for seed, name in enumerate(("one", "two", "three"))
}
ZOO = Zoo(target=TARGET, sources=SOURCES)
AGAINST = Comparison(ours=("tmu",), rival=("scratch",), ours_words="TMU", rival_words="scratch")


def names(*steps):
    return [step.name for step in ordered(steps)]


def test_zoos_of_one_graph_share_what_is_equal_and_name_the_rest_by_their_scopes():
    part = ZOO.only(("one", "two"), scope="part")
    arms = [zoo.arm(name, Transfer(), 1) for name, zoo in (("whole", ZOO), ("part", part))]
    made = names(*(arm.seeds[0] for arm in arms))
    assert {name for name in made if name.startswith("rank")} == {"rank", "rank.part"}
    assert {name for name in made if name.startswith("bank")} == {"bank.one", "bank.two", "bank.three"}
    assert len(made) == len(set(made))


def test_another_bank_in_a_scope_is_another_step_under_a_name_of_its_own():
    other = dataclasses.replace(ZOO, bank=dataclasses.replace(ZOO.bank, dtype="float32"), scope="exact")
    made = names(*(zoo.banks["one"] for zoo in (ZOO, other)))
    assert made[-2:] == ["bank.one", "bank.one.exact"]
    with pytest.raises(ConfigError, match=r"^bank.one: two different steps of a pipeline have this name; rename one"):
        names(ZOO.banks["one"], dataclasses.replace(other, scope="").banks["one"])


def test_the_same_work_under_two_names_is_one_step():
    first, second = (ZOO.arm(name, Finetune(source="one"), 1) for name in ("finetune", "again"))
    assert first.seeds[0].key == second.seeds[0].key
    assert TARGET.evaluate(first).key == TARGET.evaluate(second).key
    renamed = source_step(SourceConfig(name="uno", data=DATA), observed=3)
    assert renamed.key == SOURCES["one"].key


def test_a_training_reads_what_its_method_names():
    assert ZOO.inputs(Scratch()) == {}
    assert set(ZOO.inputs(Finetune(source="two"))) == {"sources/two"}
    assert set(ZOO.only(("one",), scope="one").inputs(Transfer())) == {"rank", "sources/one", "banks/one"}
    online = dataclasses.replace(ZOO, bank=dataclasses.replace(ZOO.bank, mode="online"))
    assert not any(name.startswith("banks/") for name in online.inputs(Transfer()))


def test_a_training_holds_what_its_workers_hold():
    config = ZOO.training("scratch", Scratch(), TrainingConfig())
    assert TARGET.train("alone", train_target, config).resources == Resources(1)
    workers = WorkerConfig(num_workers=2, cpus_per_worker=3)
    several = dataclasses.replace(TARGET, config=dataclasses.replace(TARGET.config, workers=workers))
    step = several.train("together", train_target, config)
    assert (step.resources, step.launches) == (Resources(0), (Resources(3),) * 2)


def test_a_report_reads_the_evaluation_of_every_arm_and_knows_their_families():
    arms = [COPY_LAST, ZOO.arm("scratch", Scratch(), 2), ZOO.arm("tmu", Transfer(), 2)]
    step = report_step("all", {}, TARGET, arms, AGAINST, name="report.all")
    assert list(step.inputs) == ["arms/copy-last", "arms/scratch", "arms/tmu"]
    assert (step.name, step.config.families) == ("report.all", {"scratch": "scratch", "tmu": "tmu"})
    assert step.inputs["arms/tmu"].config.sources == ("one", "two", "three")
    assert set(step.inputs["arms/scratch"].inputs) == {"data", "seeds/0", "seeds/1"}
    assert set(step.inputs["arms/copy-last"].inputs) == {"data"}


@pytest.mark.parametrize(
    ("arms", "sections", "message"),
    [
        (("tmu",), (), r"rival: must be arms of the report \(tmu\), but got scratch"),
        (("tmu", "tmu", "scratch"), (), "arms: every arm needs a name of its own, but got tmu, tmu, scratch"),
        (
            ("tmu", "scratch"),
            (SourceMatrix(sources=("one", "two"), arms={"tmu": ("one", "two"), "tmu.one": ("one",)}, reference="tmu"),),
            r"arms: must be arms of the report \(tmu, scratch\), but got tmu.one",
        ),
    ],
)
def test_what_the_report_could_not_show_is_refused_before_anything_is_trained(arms, sections, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        report_step("all", {}, TARGET, [Arm(name) for name in arms], AGAINST, sections=sections)


def test_subsets_leave_each_source_out_and_take_each_alone_once():
    assert leave_one_out(("a", "b", "c")) == {
        "without.a": ("b", "c"),
        "without.b": ("a", "c"),
        "without.c": ("a", "b"),
        "only.a": ("a",),
        "only.b": ("b",),
        "only.c": ("c",),
    }
    assert leave_one_out(("a", "b")) == {"only.a": ("a",), "only.b": ("b",)}
    with pytest.raises(ConfigError, match=r"^sources: must be at least two, or none can be left out, but got a$"):
        leave_one_out(("a",))


def judged(**frames):
    return dataclasses.replace(TARGET, evaluation=EvaluationConfig(**frames))


def test_another_horizon_leaves_trainings_as_they_are_and_builds_longer_clips_to_judge_on():
    arm, longer = Arm("scratch", [TARGET.train("t", train_target, TARGET.from_scratch("t", TrainingConfig()))]), judged(horizon=9)
    step = longer.evaluate(arm)
    assert step.inputs["seeds/0"].key == TARGET.evaluate(arm).inputs["seeds/0"].key
    assert (step.inputs["test"].name, step.inputs["test"].config.data.length, step.config.horizon) == ("data.target.test", 12, 9)
    assert longer.remarks() == (
        "Judged on 3 observed and 9 predicted frames of every test clip, and trained on 3 observed and 3 predicted ones.",
    )


def test_fewer_frames_are_judged_on_the_clips_that_there_are():
    step = judged(observed=2, horizon=2).evaluate(COPY_LAST)
    assert (set(step.inputs), step.config.observed, step.config.horizon) == ({"data"}, 2, 2)
    assert judged(observed=3, horizon=3).evaluate(COPY_LAST).key == TARGET.evaluate(COPY_LAST).key


def test_a_horizon_for_which_no_clip_is_long_enough_is_refused_before_anything_is_trained(tmp_path):
    np.save(tmp_path / "clips.npy", np.zeros((20, 6, 16, 16), np.uint8))
    data = MovingMnistConfig(path=str(tmp_path / "clips.npy"), frame_size=16, length=6, train=8, validation=1, test=1)
    target = Target(config=TargetConfig(data=data), observed=3, evaluation=EvaluationConfig(horizon=9))
    with pytest.raises(ConfigError, match=r"^evaluation.horizon: asks for test clips of 3 \+ 9 frames, which the target's data"):
        target.check()
