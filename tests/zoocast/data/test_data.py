import dataclasses
import subprocess
import sys
import typing

import pytest

from zoocast.config import override, settings
from zoocast.data import DataConfig, DigitsConfig, MovingMnistConfig, SkvideoConfig
from zoocast.data.recorded import RecordedClips
from zoocast.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    data: DataConfig = dataclasses.field(default_factory=DigitsConfig)


def test_a_data_set_is_chosen_by_its_kind():
    chosen = override(Experiment(), {"data": "moving-mnist", "data.frame_size": "32"})
    assert chosen.data == MovingMnistConfig(frame_size=32)
    with pytest.raises(ConfigError) as raised:
        override(Experiment(), {"data.digit_size": "40"})
    assert raised.value.field == "data.frame_size"


KINDS = typing.get_args(DataConfig)
RECORDED = [kind for kind in KINDS if issubclass(kind, RecordedClips)]
MADE = [kind for kind in KINDS if kind not in RECORDED]


@pytest.mark.parametrize("kind", MADE, ids=lambda cls: cls.kind)
def test_what_is_made_has_its_shape_and_counts_from_its_settings(kind):
    config = kind()
    assert config.frame_shape().height >= 1
    assert config.length >= 2
    assert set(config.counts()) == {"train", "validation", "test"}


@pytest.mark.parametrize("kind", [kind for kind in RECORDED if kind is not SkvideoConfig], ids=lambda cls: cls.kind)
def test_what_is_read_from_files_asks_for_its_path(kind):
    with pytest.raises(ConfigError, match="names no file or folder") as raised:
        kind().check()
    assert raised.value.field == "path"


@pytest.mark.parametrize("kind", KINDS, ids=lambda cls: cls.kind)
def test_every_data_set_answers_to_the_same_calls(kind):
    config = kind()
    for method in ("check", "counts", "frame_shape", "source_digest", "estimated_bytes", "build"):
        assert callable(getattr(config, method))
    assert all(s.help for s in settings(config))


@pytest.mark.parametrize("kind", MADE, ids=lambda cls: cls.kind)
@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"train": 0}, "train: must be at least 1, but got 0"),
        ({"test": -3}, "test: must be at least 1, but got -3"),
        ({"length": 1}, "length: must be at least 2, but got 1"),
        ({"seed": -1}, "seed: must be at least 0 and at most 4294967295, but got -1"),
        ({"seed": 2**32}, "seed: must be at least 0 and at most 4294967295, but got 4294967296"),
    ],
)
def test_sizes_that_cannot_work_are_named(kind, changed, rule):
    with pytest.raises(ConfigError) as raised:
        kind(**changed)
    assert str(raised.value) == rule


IMPORTS = """
import sys
sys.path[:] = %r
import zoocast.data
zoocast.data.DigitsConfig()
print({"torch", "sklearn", "pyarrow"} & set(sys.modules))
"""


def test_configs_are_made_without_importing_torch_or_scikit_learn():
    done = subprocess.run([sys.executable, "-c", IMPORTS % sys.path], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
