"""The map of when transfer helps: what its cells share, and what is refused."""

import pytest

from pipelines import zoo_to_target
from pipelines.when_transfer_helps import PRESETS, steps
from zoocast.config import override, parse_overrides
from zoocast.errors import ConfigError

SMOKE, LAPTOP = PRESETS["smoke"](), PRESETS["laptop"]()


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def named(config):
    return {step.name: step for step in steps(config)}


def compared(config):
    """The evaluations that the report compares, by what it calls their arms."""
    inputs = steps(config)[-1].inputs
    return {name.removeprefix("arms/"): step for name, step in inputs.items()}


def test_every_relation_and_number_of_clips_is_a_cell_with_all_arms():
    arms = {"scratch", "l2-sp", "tmu", "finetune.moving"}
    others = {"complementary": "finetune.turning", "mixed": "finetune.pulsing"}
    assert set(compared(SMOKE)) == {
        f"{relation}.{clips}.{arm}" for relation, other in others.items() for clips in (8, 16) for arm in (*arms, other)
    }


def test_a_target_trains_on_as_many_clips_as_its_column_says_and_is_judged_on_the_same():
    made = named(LAPTOP)
    data = [made[f"data.complementary.{clips}"].config.data for clips in LAPTOP.clips]
    assert [d.train for d in data] == [16, 64, 256, 1000]
    assert {override(d, {"train": 1}) for d in data} == {override(LAPTOP.zoo.target.data, {"train": 1})}


def test_relations_with_one_target_share_its_clips_and_all_that_does_not_see_the_other_sources():
    found = compared(SMOKE)
    for arm in ("scratch", "finetune.moving"):
        assert found[f"mixed.8.{arm}"].key == found[f"complementary.8.{arm}"].key
    assert found["mixed.8.tmu"].key != found["complementary.8.tmu"].key
    made = set(named(SMOKE))
    assert {name for name in made if name.startswith("data.")} == {
        "data.moving",
        "data.turning",
        "data.pulsing",
        "data.complementary.8",
        "data.complementary.16",
    }
    assert {"bank.moving.complementary.8", "bank.pulsing.mixed.8"} <= made
    assert "bank.moving.mixed.8" not in made


def test_the_sources_of_the_default_job_are_not_trained_again():
    theirs = {step.name: step.key for step in zoo_to_target.steps(zoo_to_target.PRESETS["laptop"]())}
    ours = {step.name: step.key for step in steps(LAPTOP)}
    assert {name for name in theirs if ours.get(name) == theirs[name]} >= {"source.moving", "source.turning"}


def test_one_more_column_leaves_the_others():
    before, after = compared(SMOKE), compared(changed("clips=8,12,16"))
    assert {name: step.key for name, step in after.items() if name in before} == {n: s.key for n, s in before.items()}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["clips=8,8"], "clips: must be one or several, each once, but got 8, 8"),
        (["clips=0"], "clips: must be at least 1, but got"),
        (
            ["relations.mixed.sources=moving,still"],
            r"relations.mixed.sources: must be some of zoo.sources \(moving, turning, .*still",
        ),
        (["zoo.arms=scratch,tmu"], "relations.complementary.sources: must hold one with the target's network, and zoo.arms fin"),
        (["zoo.observed=6"], "zoo.observed: must leave at least one of the 6 frames"),
        (["relations.mixed.data=digits"], "relations.mixed.data: must have the 6 frames and 8 test clips of zoo.target.data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_said_before_any_work_starts(items, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        steps(changed(*items))
