"""An exported network runs where there is no zoocast, and gives the same numbers."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import zoocast
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.trained.export import ExportConfig, Step, Whole, export_model

WITHOUT = """
import runpy, sys
sys.path[:] = [p for p in sys.path if "platform" not in p]
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "zoocast":
            raise ImportError("there is no zoocast here")
sys.meta_path.insert(0, Refuse())
del sys.argv[0]  # "-c"
runpy.run_path(sys.argv[0], run_name="__main__")
assert "zoocast" not in sys.modules
"""


@pytest.fixture(scope="module")
def model(root):
    return zoocast.load("@last:tmu", root=root, device="cpu")


@pytest.mark.parametrize(("horizon", "arguments"), [(5, []), (None, ["5"])], ids=["whole", "step"])
def test_a_program_predicts_without_zoocast_what_the_network_predicts(model, tmp_path, horizon, arguments):
    takes = export_model(model, tmp_path / "out", ExportConfig(horizon=horizon))
    assert (takes["batch"], takes["horizon"]) == ("any", horizon or "any")
    observed = np.random.default_rng(0).random((5, 3, 1, 16, 16), np.float32)
    np.save(tmp_path / "observed.npy", observed)
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "out" / "predict.py"), "observed.npy", "predicted.npy", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = model.predictor.predict(torch.from_numpy(observed), 5).numpy()
    assert np.abs(np.load(tmp_path / "predicted.npy") - expected).max() < 1e-6
    card = json.loads((tmp_path / "out" / "model_card.json").read_text())
    assert (card["export"], card["data"]["kind"], len(card["evaluations"])) == (takes, "digits", 1)
    assert "# target.tmu.seed0" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_steps_one_by_one_are_the_prediction_bit_by_bit():
    """Also where a memory zig-zags through the layers, as PredRNN's does."""
    torch.manual_seed(0)
    predictor = Predictor(PredictorConfig(cell=STLSTM(), hidden_channels=(4, 4)), FrameShape(height=8, width=8)).eval()
    observed = torch.rand(2, 3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(Whole(predictor, 4)(observed), predictor.predict(observed, 4))
    assert [(slot.layer, slot.name) for slot in Step(predictor).slots if slot.layer < 0] == [(-1, "m")]


def test_a_fixed_batch_is_kept_to(model, tmp_path):
    takes = export_model(model, tmp_path / "out", ExportConfig(horizon=1, observed=1, batch=3))
    assert (takes["batch"], takes["observed"]) == (3, 1)
    network = torch.export.load(tmp_path / "out" / "network.pt2").module()
    assert network(torch.zeros(3, 1, 1, 16, 16)).shape == (3, 1, 1, 16, 16)
    with pytest.raises(AssertionError, match="Guard failed"):
        network(torch.zeros(2, 1, 1, 16, 16))


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(model, tmp_path):
    imported = dataclasses.replace(model, observed=None)
    with pytest.raises(ConfigError, match=r"^observed: must be given, for how many frames .* saw in training is not known"):
        export_model(imported, tmp_path / "out", ExportConfig())
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match=r"^out: .* holds something already"):
        export_model(model, tmp_path, ExportConfig())
    with pytest.raises(ConfigError, match=r"^batch: must be at least 1, but got 0"):
        ExportConfig(batch=0)
