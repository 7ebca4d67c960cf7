"""Transfer learning between spatiotemporal predictive networks, as a library; whole experiments are run by `pipelines`.

What a run left lies below its root, one folder for each step. The network of a target, the clips that it has not seen, its next
frames, and how good they are:

>>> from pathlib import Path
>>> from zoocast.data.store import ClipStore
>>> from zoocast.evaluation import evaluate
>>> from zoocast.nn.predictor import load_predictor
>>> steps = Path("runs/steps")
>>> predictor = load_predictor(next(steps.glob("target.tmu.seed0-*/model")))  # a torch module in evaluation mode
>>> test = ClipStore.open(next(steps.glob("data.target-*"))).split("test")
>>> clips = test.clips(range(8))  # float32 in [0, 1]
>>> clips.shape, predictor.predict(clips[:, :10], horizon=10).shape
(torch.Size([8, 20, 1, 32, 32]), torch.Size([8, 10, 1, 32, 32]))
>>> scores = evaluate(lambda seen: predictor.predict(seen, 10), test, observed=10, horizon=10, batch_size=32)
>>> error = scores.overall("strict/mse")  # as in the report

A small one of your own, on whatever clips there are; `zoocast.training.clips_of` takes an array of them:

>>> from zoocast.nn.predictor import Predictor, PredictorConfig
>>> from zoocast.training import PredictionObjective, TrainingConfig, fit
>>> small = Predictor(PredictorConfig(hidden_channels=(8,)), test.shape)
>>> train, validation = (test.store.split(name) for name in ("train", "validation"))
>>> trained = fit(PredictionObjective(small), train, validation, observed=10, config=TrainingConfig(iterations=20))
>>> better = trained.val_mse  # by the weights that validated best, which `small` now has

Nothing is imported before it is asked for: `import zoocast` brings neither torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoocast.cli.models import load
    from zoocast.cli.python import run, runs, scores

__all__ = ["load", "run", "runs", "scores"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from zoocast.cli import models

        return models.load
    if name in __all__:
        from zoocast.cli import python

        return getattr(python, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
