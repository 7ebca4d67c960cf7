"""A data set of your own files: read as they are, or imported once and then known by name."""

import dataclasses
import json

import h5py
import numpy as np
import pytest

from pipelines import zoo_to_target
from tests.fakes import films, grids
from zoocast.cli.app import invoke
from zoocast.config import override
from zoocast.data import DigitsConfig, ImportedConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, DataError


@pytest.fixture
def rain(tmp_path, monkeypatch):
    """A film of rain in millimetres, and where imports go."""
    monkeypatch.setenv("ZOOCAST_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    frames = np.random.Generator(np.random.Philox(0)).gamma(2, 3, (200, 16, 24)).astype(np.float32)
    np.save(tmp_path / "rain.npy", frames)
    return frames


def imported(*arguments):
    return invoke(["data", "import", "rain.npy", "--length", "10", "--split", "time", "--scaling", "min-max", *arguments])


def test_what_is_imported_is_a_data_set_by_name(rain, tmp_path, capsys):
    assert imported("--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["clips"]) == ("rain", {"train": 12, "validation": 1, "test": 3})
    assert not list((tmp_path / "data").glob(".*"))  # nothing half-written is left beside it
    config = override(zoo_to_target.PRESETS["smoke"](), {"target.data": "imported", "target.data.name": "rain"}).target.data
    store = config.build(tmp_path / "step", lambda *_: None)
    assert (config.length, config.counts(), store.shape) == (10, facts["clips"], config.frame_shape())
    np.testing.assert_allclose(store.physical(store.split("train").clips([1]).numpy())[0, :, 0], rain[10:20], rtol=1e-5)
    assert imported("--name", "again", "--fill-value", "7") == 0  # a setting that moves no value
    assert dataclasses.replace(config, name="again").source_digest() == config.source_digest()
    assert imported("--name", "other", "--stride", "9") == 0
    assert dataclasses.replace(config, name="other").source_digest() != config.source_digest()
    fewer = dataclasses.replace(config, train=3, length=8)
    assert len(fewer.build(tmp_path / "fewer", lambda *_: None).split("train")) == 3
    assert invoke(["data", "list"]) == 0
    assert "rain" in capsys.readouterr().out


@pytest.mark.usefixtures("rain")
def test_a_path_names_a_data_set_too(tmp_path):
    smoke = zoo_to_target.PRESETS["smoke"]()
    config = override(smoke, {"target.data": "./rain.npy", "target.data.split": "time", "target.data.length": "10"}).target.data
    assert config == ImportedConfig(path=str(tmp_path / "rain.npy"), split="time", length=10)
    with pytest.raises(
        ConfigError, match=r"target\.data: must be one of digits, moving-mnist, .*imported.*, but got './rian.npy'"
    ):
        override(smoke, {"target.data": "./rian.npy"})
    assert override(smoke, {"target.data": "digits"}).target.data == DigitsConfig()


@pytest.mark.usefixtures("rain")
def test_nothing_is_written_over_or_for_what_cannot_be_read(tmp_path, capsys):
    assert imported("--dry-run") == 0
    assert imported("--missing", "drop", "--size", "0") == 2
    assert imported("--crop", "0,0,99,99") == 2
    assert "error: --crop: must lie within 16x24 pixels" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert imported() == 0
    assert imported() == 2
    assert "rain is in" in capsys.readouterr().err
    ClipStore.open(tmp_path / "data" / "rain", verify=True)


@pytest.mark.usefixtures("rain")
def test_settings_of_an_import_are_not_changed_afterwards():
    assert imported() == 0
    config = ImportedConfig(name="rain")
    for settings, words in (
        ({"stride": 3}, "stride: was decided when rain was imported"),
        ({"length": 11}, "length: is 11, but rain was imported in clips of 10"),
        ({"train": 13}, "train: asks for 13 clips, but rain has 12"),
    ):
        with pytest.raises(ConfigError, match=words):
            dataclasses.replace(config, **settings).check()
    with pytest.raises(DataError, match=r"no data set rian in .*did you mean rain\?"):
        ImportedConfig(name="rian")


def test_a_store_of_clips_that_no_recording_gave_has_a_name_too(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOCAST_DATA", str(tmp_path))
    made = DigitsConfig(train=4, validation=2, test=2, length=6).build(tmp_path / "digits", lambda *_: None)
    store = ImportedConfig(name="digits").build(tmp_path / "step", lambda *_: None)
    assert store.split("train").gather([1]).equal(made.split("train").gather([1]))
    assert store.split("test").sequences == ()


def test_a_name_leads_nowhere_else():
    with pytest.raises(ConfigError, match="must be of letters"):
        ImportedConfig(name="../rain")


def write_h5(path, frames):
    with h5py.File(path, "w") as file:
        file["frames"] = frames


DIMS = ("time", "latitude", "longitude")
FORMS = {
    "frames": lambda path, frames: films.write_pictures(path, frames[..., None]),
    "frames.npy": np.save,
    "frames.npz": np.savez_compressed,
    "frames.h5": write_h5,
    "frames.nc": lambda path, frames: grids.write_netcdf4(path, {"frames": (DIMS, frames, {})}),
    "frames2.zarr": lambda path, frames: grids.write_zarr(path, {"frames": (DIMS, frames, {})}, 2),
    "frames3.zarr": lambda path, frames: grids.write_zarr(path, {"frames": (DIMS, frames, {})}, 3),
    "frames.mkv": lambda path, frames: films.write_video(path, frames[..., None], "ffv1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_film_gives_the_same_clips_in_every_format(tmp_path, form):
    frames = films.film(60, 16, 24)[..., 0]
    FORMS[form](tmp_path / form, frames)
    config = ImportedConfig(path=str(tmp_path / form), length=5, split="time", gray=form.endswith("mkv"), layout="THW")
    store = config.build(tmp_path / "clips", lambda *_: None)
    assert (store.recipe.dtype, config.counts()) == ("uint8", dict(store.manifest.sizes))
    clips = store.split("train").gather([1]).numpy()[0, :, 0].astype(int)
    # A video keeps brightness as its codec has it; all others every byte.
    np.testing.assert_allclose(clips, frames[5:10], atol=3 if form.endswith("mkv") else 0)


def test_sixteen_bits_stay_exact(tmp_path):
    frames = np.random.default_rng(0).integers(0, 65536, (60, 8, 8), np.uint16)
    films.write_pictures(tmp_path / "frames", frames[..., None])
    config = ImportedConfig(path=str(tmp_path / "frames"), length=5, split="time", scaling="divisor", divisor=65535)
    store = config.build(tmp_path / "clips", lambda *_: None)
    np.testing.assert_array_equal(np.rint(store.physical(store.split("train").clips([1]).numpy()))[0, :, 0], frames[5:10])
