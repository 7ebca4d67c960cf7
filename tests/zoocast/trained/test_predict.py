"""Predictions on recordings of the user's own: what is written, measured, refused, and left when it is interrupted."""

import csv
import dataclasses
import json

import h5netcdf
import numpy as np
import pytest
from PIL import Image

import zoocast
from zoocast.cli.app import invoke
from zoocast.data.formats import open_recordings
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, DataError
from zoocast.report.files import read_scores
from zoocast.trained.model import TrainedModel
from zoocast.trained.predict import PredictConfig, clips_of, predict_recordings
from zoocast.trained.units import Units


@pytest.fixture(scope="module")
def model(root):
    return zoocast.load("@last:tmu", root=root)


@pytest.fixture(scope="module")
def clips(root):
    return ClipStore.open(next((root / "steps").glob("data.target-*"))).split("test").gather(range(3)).numpy()


def recordings(folder, frames):
    """Those of a file with `frames`, (N, T, C, H, W)."""
    np.save(folder / "clips.npy", frames)
    return open_recordings(folder / "clips.npy", layout="NTCHW").recordings


def predict(model, found, out, **config):
    return predict_recordings(model, found, out, PredictConfig(**config), lambda *_: None)


def test_test_clips_are_measured_as_the_evaluation_of_the_run_measured_them(root, model, clips, tmp_path):
    done = predict(model, recordings(tmp_path, clips), tmp_path / "out", horizon=3, batch_size=2)
    scores = read_scores(next((root / "steps").glob("evaluate.tmu-*")))[1][0]
    assert (done.clips, done.measured, done.observed) == (3, 3, 3)
    assert done.metrics["strict/mse"] == pytest.approx(scores.overall("strict/mse"), rel=1e-5)
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert measured["per_frame"]["openstl/ssim"] == pytest.approx(scores.per_frame("openstl/ssim"), rel=1e-5)
    predicted = np.load(tmp_path / "out" / "predictions.npy")
    error = predicted.astype(float) - clips[:, 3:]
    assert measured["in_units"] == pytest.approx(
        {"unit": "bytes", "mae": np.abs(error).mean(), "rmse": np.sqrt(np.square(error).mean())}
    )
    assert np.array_equal(predicted, model.predict(clips[:, :3], 3))


def test_every_format_holds_the_same_frames(model, clips, tmp_path):
    formats = ("npy", "netcdf", "png", "gif", "mp4")
    predict(model, recordings(tmp_path, clips), tmp_path / "out", horizon=3, formats=formats, strips=2)
    frames = np.load(tmp_path / "out" / "predictions.npy")
    with h5netcdf.File(tmp_path / "out" / "predictions.nc") as file:
        assert np.array_equal(file["frames"][:], frames)
        assert b"".join(file["name"][1]) == b"clips-1"
    with Image.open(tmp_path / "out" / "png" / "clips-1" / "02.png") as image:
        assert np.abs(np.asarray(image)[..., 0].astype(int) - frames[1, 1, 0]).max() <= 1
    with Image.open(tmp_path / "out" / "gif" / "clips-2.gif") as film:
        assert (film.n_frames, film.size) == (3, (128, 128))
    assert len(list((tmp_path / "out" / "mp4").iterdir())) == 3
    assert {path.name for path in (tmp_path / "out" / "strips").iterdir()} == {
        f"clips-{n}{ending}" for n in (0, 2) for ending in (".png", ".moving.png")
    }


def test_long_recordings_are_cut_one_clip_after_another_and_short_ones_seen_to_their_end(model, clips, tmp_path):
    long = np.concatenate(list(clips))[None]  # 18 frames
    found = recordings(tmp_path, long)
    found += (dataclasses.replace(found[0], name="short", frames=4),)
    windows = clips_of(found, 3, PredictConfig(horizon=4))
    assert [(w.recording, w.start, w.length) for w in windows] == [(0, 0, 7), (0, 7, 7), (1, 1, 3)]
    at_end = clips_of(found, 3, PredictConfig(horizon=4, at_end=True))
    assert [(w.recording, w.start, w.length) for w in at_end] == [(0, 15, 3), (1, 1, 3)]
    gap = (dataclasses.replace(found[0], runs=(range(8), range(8, 18))),)
    assert [w.start for w in clips_of(gap, 3, PredictConfig(horizon=4))] == [0, 8]
    done = predict(model, found[:1], tmp_path / "out", horizon=9, at_end=True)
    assert (done.clips, done.measured, done.metrics) == (1, 0, {})
    assert np.load(tmp_path / "out" / "predictions.npy").shape == (1, 9, 1, 16, 16)
    assert not (tmp_path / "out" / "metrics.json").exists()
    (row,) = csv.DictReader((tmp_path / "out" / "clips.csv").read_text().splitlines())
    assert (row["first_observed"], row["first_predicted"], row["has_truth"]) == ("16", "19", "0")


def test_values_in_units_are_predicted_and_measured_in_units(model, clips, tmp_path):
    rain = dataclasses.replace(model, units=Units(offset=(-10.0,), factor=(70.0,), unit="dBZ"))
    values = (clips / np.float32(255) * 70 - 10).astype(np.float32)
    done = predict(rain, recordings(tmp_path, values), tmp_path / "out", horizon=3)
    plain = predict(model, recordings(tmp_path, clips / np.float32(255)), tmp_path / "plain", horizon=3)
    assert done.metrics["strict/mse"] == pytest.approx(plain.metrics["strict/mse"], rel=1e-4)
    in_units = [json.loads((tmp_path / name / "metrics.json").read_text())["in_units"] for name in ("out", "plain")]
    assert (in_units[0]["unit"], in_units[0]["rmse"]) == ("dBZ", pytest.approx(70 * in_units[1]["rmse"], rel=1e-4))


def fails_with(model: TrainedModel, found, out, error, message, **config):
    with pytest.raises(error, match=message):
        predict(model, found, out, **config)
    assert not list(out.parent.glob(f"*{out.name}*"))


def test_what_the_network_was_not_trained_on_is_refused_and_nothing_is_left(model, clips, tmp_path):
    (first, *_), out = recordings(tmp_path, clips), tmp_path / "out"
    larger = dataclasses.replace(first, shape=dataclasses.replace(first.shape, width=32))
    fails_with(model, [larger], out, DataError, r"^clips/0: target.tmu.seed0 was trained on frames of 1x16x16.*got 1x16x32; crop")
    colours = dataclasses.replace(model, units=Units(channels=("red",)))
    blue = [dataclasses.replace(first, channels=("blue",))]
    fails_with(colours, blue, out, DataError, r"was trained on the channels red, but got blue; convert it first")
    holes = [dataclasses.replace(first, missing=0.0)]
    fails_with(model, holes, out, DataError, r"^clips/0: [\d,]+ values are missing in the frames from 4 on; fill them in")
    floats = recordings(tmp_path, clips.astype(np.float32))
    fails_with(model, floats, out, DataError, r"^clips/0, clips/1, clips/2: .*trained on floats of 0 to 1, or bytes", horizon=3)
    fails_with(model, [first], out, DataError, r"no recording has the 9 frames.*the longest has 6", observed=9)
    unknown = dataclasses.replace(model, observed=None)
    fails_with(unknown, [first], out, ConfigError, r"^observed: must be given, for how many frames target.tmu.seed0 saw")


def test_settings_and_folders_that_cannot_work_are_refused(model, clips, tmp_path):
    with pytest.raises(ConfigError, match=r"^format: must be some of npy, netcdf, png, gif, mp4, but got avi"):
        PredictConfig(formats=("npy", "avi"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ConfigError, match=r"^out: .* holds something already"):
        predict(model, recordings(tmp_path, clips), tmp_path / "out")


def test_ctrl_c_leaves_no_half_of_anything(model, clips, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_recordings(model, recordings(tmp_path, clips), tmp_path / "out", PredictConfig(horizon=3), interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.npy"]


def test_the_commands_say_what_was_done_and_end_with_the_codes_of_all_others(root, clips, tmp_path, capsys):
    np.save(tmp_path / "clips.npy", clips)
    given = ["@last:tmu", str(tmp_path / "clips.npy"), "--layout", "NTCHW", "--root", str(root), "--out", str(tmp_path / "out")]
    assert invoke(["predict", *given, "--horizon", "3", "--strips", "0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["clips"], done["measured"], done["folder"]) == (3, 3, str(tmp_path / "out"))
    assert invoke(["predict", *given]) == 2
    assert "error: --out: " in capsys.readouterr().err
    assert invoke(["predict", "@last:none", *given[1:]]) == 2
    assert "has no arm 'none'" in capsys.readouterr().err
    exported = ["export", "@last:tmu", "--root", str(root), "--out", str(tmp_path / "program"), "--horizon", "any"]
    assert invoke([*exported, "--batch", "many"]) == 2
    assert "it is a number or dynamic, but got 'many'" in capsys.readouterr().err
