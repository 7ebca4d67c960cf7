"""Small clips, two random sources, and an objective of every kind for them."""

import dataclasses

import pytest
import torch

from zoocast.bank.distill import DistillationLoss
from zoocast.bank.read import BankConfig, open_bank
from zoocast.bank.relevance import Relevance
from zoocast.data import DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.nn.cells import STLSTM, ConvGRU
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.nn.tmu import TmuConfig
from zoocast.training import Batch, PredictionObjective
from zoocast.transfer import AnchoredObjective, Transfer, TransferObjective

OBSERVED = 3
SOURCES = ("near", "gru")
PLAIN = PredictorConfig(hidden_channels=(4, 4))
PREDRNN = dataclasses.replace(PLAIN, cell=STLSTM(decouple=True))
BANK = BankConfig(mode="online", policy="free_run", dtype="float32", reversed=True, frames=True)
NETWORKS = {
    "convlstm": PLAIN,
    "convgru": dataclasses.replace(PLAIN, cell=ConvGRU()),
    "stlstm": dataclasses.replace(PREDRNN, cell=STLSTM()),
    "decoupled": PREDRNN,
    "norm": dataclasses.replace(PREDRNN, cell=STLSTM(layer_norm=True, decouple=True)),
}


@pytest.fixture(autouse=True)
def _threads():
    """One, as the pipeline's steps have; more would make these small networks slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """``data``, and the sources `near`, which has the target's network, and `gru`, which has other channels and maps."""
    root = tmp_path_factory.mktemp("seemore")
    data = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=12, validation=4, test=4)
    (root / "data").mkdir()
    data.build(root / "data", lambda _fraction, _message: None)
    torch.manual_seed(100)
    sources = (PLAIN, PredictorConfig(cell=ConvGRU(kernel_size=3), hidden_channels=(6,), patch_size=2))
    for name, network in zip(SOURCES, sources, strict=True):
        save_predictor(Predictor(network, data.frame_shape()), root / name / "model")
    return root


@pytest.fixture
def batch(folder):
    """Four clips, of which each sequence and step sees the true frame or not."""
    indices = torch.arange(4)
    feed = torch.randint(2, (4, 5), generator=torch.Generator().manual_seed(0)).float()
    feed[:, 0] = 1
    return Batch(indices, ClipStore.open(folder / "data").split("train").clips(indices), feed, False)


@pytest.fixture
def make_objective(folder):
    """Makes an objective with random weights: prediction by one of `NETWORKS`, ``anchored``, ``tmu``, or ``listening tmu``."""

    def make(kind):
        frames = ClipStore.open(folder / "data").shape
        if kind == "anchored":
            return AnchoredObjective(Predictor(PLAIN, frames), 0.1, weight=0.1)
        if not kind.endswith("tmu"):
            return PredictionObjective(Predictor(NETWORKS[kind], frames), 0.1)
        target = Predictor(Transfer(tmu=TmuConfig(layers="first")).network(PLAIN, len(SOURCES)), frames)
        bank = open_bank(
            BANK,
            sources={name: folder / name / "model" for name in SOURCES},
            banks={},
            clips=folder / "data",
            observed=OBSERVED,
            target=target.config,
        )
        relevance = Relevance("best") if kind == "listening tmu" else None
        return TransferObjective(target, 0.1, bank, DistillationLoss(target, bank, relevance=relevance), 0.1)

    torch.manual_seed(0)
    return make


@pytest.fixture
def plain():
    """The smallest network."""
    return PLAIN


@pytest.fixture
def bank():
    """The settings of a bank that is read in both directions."""
    return BANK
