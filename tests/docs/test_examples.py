"""The examples of docs/extending.md do what is said there."""

import dataclasses
import shutil

import numpy as np
import pytest

from docs.examples import rain
from docs.examples.radar import RadarConfig
from pipelines import zoo_to_target
from zoocast.cli.catalogue import configure, load
from zoocast.config import digest, settings
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape

SMALL = {"height": 8, "width": 10, "length": 6, "train": 13, "validation": 2, "test": 4}


def quiet(fraction, message):
    assert 0 <= fraction <= 1
    assert message


@pytest.fixture
def days(tmp_path):
    """Ten days of 13 frames, of which each makes two clips of 6; frame t of day d is filled with 20 d + t."""
    folder = tmp_path / "days"
    folder.mkdir()
    for day in range(10):
        frames = np.broadcast_to((20 * day + np.arange(13, dtype=np.uint8))[:, None, None], (13, 8, 10))
        np.save(folder / f"2026-06-{day + 1:02}.npy", frames)
    return folder


# ------------------------------------------------------------------------------------------------------------------ a data set


def test_radar_is_cut_into_clips_whose_splits_share_no_day(days, tmp_path):
    config = RadarConfig(path=str(days), **SMALL)
    store = config.build(tmp_path / "store", quiet)
    assert store.shape == config.frame_shape() == FrameShape(channels=1, height=8, width=10)
    assert store.length == 6
    firsts = {split: store.split(split).gather(range(n))[:, :, 0, 0, 0].tolist() for split, n in config.counts().items()}
    # Days 0 to 6 are for training, 7 for validation, 8 and 9 for the test; the last frame of a day is left over.
    assert [clip[0] for clip in firsts["train"]] == [0, 6, 20, 26, 40, 46, 60, 66, 80, 86, 100, 106, 120]
    assert firsts["validation"] == [[140, 141, 142, 143, 144, 145], [146, 147, 148, 149, 150, 151]]
    assert [clip[0] for clip in firsts["test"]] == [160, 166, 180, 186]
    assert config.estimated_bytes() == (13 + 2 + 4) * 6 * 80


def test_radar_is_the_same_data_wherever_it_lies_and_other_data_when_a_day_changes(days, tmp_path):
    shutil.copytree(days, tmp_path / "moved")
    one, moved = RadarConfig(path=str(days), **SMALL), RadarConfig(path=str(tmp_path / "moved"), **SMALL)
    assert digest(one) == digest(moved)
    assert one.source_digest() == moved.source_digest()
    assert one.build(tmp_path / "a", quiet).digest == moved.build(tmp_path / "b", quiet).digest
    np.save(tmp_path / "moved" / "2026-06-03.npy", np.zeros((13, 8, 10), np.uint8))
    assert one.source_digest() != moved.source_digest()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": 15}, "train: asks for 15 clips, but its 7 days hold 14; use at most that"),
        ({"length": 14, "train": 1}, "train: asks for 1 clips, but its 7 days hold 0"),
        ({"path": "/nowhere"}, "path: needs a folder of at least 10 days"),
        ({"path": ""}, "path: needs a folder of at least 10 days"),
        ({"test": 0}, "test: must be at least 1, but got 0"),
    ],
)
def test_radar_refuses_what_its_files_cannot_serve_before_work_starts(days, changed, message):
    with pytest.raises(ConfigError) as raised:
        RadarConfig(**({"path": str(days), **SMALL} | changed)).check()
    assert message in str(raised.value)


def test_radar_names_a_day_that_is_something_else(days):
    config = RadarConfig(path=str(days), **SMALL)
    np.save(days / "2026-06-05.npy", np.zeros((13, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"06-05\.npy is uint8 \[13, 8, 8\]; expected uint8 \[time, 8, 10\]"):
        config.check()
    (days / "2026-06-05.npy").write_text("rain")
    with pytest.raises(DataError, match=r"06-05\.npy cannot be read"):
        config.check()


# -------------------------------------------------------------------------------------------------------------- a search space


def test_the_search_space_is_taken_by_the_pipeline_that_searches():
    searched = configure(load("seemore-search"), "smoke", ["space=docs.examples.rates"])
    assert [step.name for step in searched.steps if "search" in step.name]
    with pytest.raises(ConfigError, match=r"no search space 'docs\.examples\.rats'"):
        configure(load("seemore-search"), "smoke", ["space=docs.examples.rats"])


# ------------------------------------------------------------------------------------------------------------------ a pipeline


def small(folder):
    """Overrides that make `rain` small."""
    clips = {"path": folder, **SMALL, "length": 6}
    training = {"iterations": 2, "batch_size": 4, "validate_every": 1, "checkpoint_every": 1}
    return [
        f"{who}.{part}={value}"
        for who in ("sources.*", "target")
        for part, value in [
            *((f"data.{name}", value) for name, value in clips.items()),
            *((f"training.{name}", value) for name, value in training.items()),
            ("predictor.patch_size", 2),
            ("predictor.hidden_channels", "4,4"),
        ]
    ] + ["observed=3", "seeds=1"]


def test_the_pipeline_is_found_by_its_dots_and_every_setting_of_its_data_is_explained(days):
    pipeline = load("docs.examples.rain")
    assert pipeline.summary == rain.SUMMARY
    configured = configure(pipeline, "laptop", small(days))
    assert configured.steps[-1].name == "report"
    assert [s.name for s in configured.config.sources] == ["rain-1", "rain-2"]
    assert configured.config.target.data == RadarConfig(path=str(days), **SMALL)
    assert all(setting.help for setting in settings(configured.config.target.data))


def test_a_folder_without_days_is_refused_by_the_plan():
    with pytest.raises(ConfigError, match=r"path: needs a folder of at least 10 days"):
        configure(load("docs.examples.rain"), "laptop", [])


def test_the_pipeline_runs_with_data_that_zoocast_has_never_seen(days, tmp_path, shell_in):
    shell = shell_in(tmp_path, {})
    changed = [word for setting in small(days) for word in ("-S", setting)]
    done = shell.run("run", "docs.examples.rain", *changed, "--until", "data.*", timeout=240)
    assert done.returncode == 0, done.stderr
    built = [ClipStore.open(folder) for folder in (tmp_path / "runs" / "steps").glob("data.*")]
    assert built
    assert all((store.length, store.shape.channels) == (6, 1) for store in built)


def test_the_pipeline_changes_nothing_but_the_data_of_the_experiment():
    digits, radar = zoo_to_target.nested(), rain.laptop()
    assert radar == dataclasses.replace(digits, sources=radar.sources, target=radar.target)
    assert radar.target == dataclasses.replace(digits.target, data=radar.target.data)
    assert [(s.predictor, s.training) for s in radar.sources] == [(s.predictor, s.training) for s in digits.sources]


def test_a_pipeline_of_parts_has_one_arm_more_and_shares_the_rest():
    study, base = configure(load("docs.examples.reinit_study"), "smoke"), configure(load("zoo-to-target"), "smoke")
    keys, shared = ({step.key: step.name for step in configured.steps if step.name != "report"} for configured in (study, base))
    assert shared.items() <= keys.items()
    more = sorted(name for key, name in keys.items() if key not in shared)
    assert more == ["evaluate.reinit", "target.reinit.seed0", "target.reinit.seed1"]
