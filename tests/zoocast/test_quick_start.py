"""The quick start in zoocast's docstring, run as it stands there on the folders of a run."""

import doctest
import subprocess
import sys

import pytest

import zoocast
from zoocast.data import DigitsConfig
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A folder in which `runs/` has what the quick start reads, as the steps of a run leave it."""
    steps = tmp_path / "runs" / "steps"
    data = DigitsConfig(train=8, validation=2, test=40)
    data.build(steps / "data.target-0123456789ab", lambda *_: None)
    predictor = Predictor(PredictorConfig(hidden_channels=(4,)), data.frame_shape())
    save_predictor(predictor, steps / "target.tmu.seed0-0123456789ab" / "model")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("finished_run")
def test_every_line_of_the_quick_start_gives_what_it_shows():
    test = doctest.DocTestFinder(recurse=False).find(zoocast, "zoocast")[0]
    assert len(test.examples) >= 10
    said: list[str] = []
    results = doctest.DocTestRunner().run(test, out=said.append, clear_globs=False)
    assert results.failed == 0, "".join(said)
    assert 0 < test.globs["error"] < 1
    assert 0 < test.globs["better"] < 1


def test_importing_zoocast_imports_nothing_heavy():
    code = "import sys, zoocast; print({'torch', 'ray', 'numpy', 'mlflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr
