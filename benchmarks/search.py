"""Search overhead: seconds of a trial's place on the cluster that its training did not use.

    python benchmarks/search.py [NUMBER_OF_TRIALS] [TRIALS_AT_ONCE]

Each trial imports torch, trains a small network for about two seconds, keeps a checkpoint and reports eight times. The training
measures itself, torch's import left out. The places are those at once; all that they were held for and training did not fill is
overhead: Ray Tune, processes, imports, suggestions, journals, folders.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution

from zoocast.cluster.connect import connect
from zoocast.dag import Kind, StepContext
from zoocast.search import SearchConfig, SearchSpace, Trial, search

REPORTS = 8
SPACE = SearchSpace(fields={"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}, points=({"learning_rate": 1e-3},))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
    """The training's config."""

    learning_rate: float = 1e-3
    seconds: float = 2.0


def train(trial: Trial) -> dict[str, Any]:
    """Fit a line of ones for about the seconds that the config says."""
    import torch

    config: Small = trial.context.config
    began = time.time()
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    used, iteration = 0.0, 0
    for report in range(REPORTS):
        begin = time.perf_counter()
        while time.perf_counter() - begin < config.seconds / REPORTS:
            loss = (model(torch.ones(16, 64)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            iteration += 1
        torch.save(model.state_dict(), trial.context.directory / "checkpoint.pt")
        used += time.perf_counter() - begin
        trial.report(report + 1, float(loss))
    return {"seconds": used, "began": began}


def main(num_trials: int, at_once: int) -> None:
    """Run one study, and print its overhead, with and without the start of Ray Tune and of the first processes."""
    config = SearchConfig(num_trials=num_trials, max_iterations=REPORTS, grace_cycles=REPORTS, max_concurrent=at_once)
    with tempfile.TemporaryDirectory() as folder, connect(num_cpus=at_once):
        begin = time.time()
        context = StepContext.standalone(Path(folder) / "search", name="search")
        study = search(context, config, SPACE, Small(), train, kind=Kind("small", 1))
        wall = time.time() - begin
    trained = sum(t.result["seconds"] for t in study.trials)
    start = min(t.result["began"] for t in study.trials) - begin
    overhead = wall * at_once - trained
    print(f"{num_trials} trials, {at_once} at once: {wall:.1f} s, of which training {trained:.1f} s in all places")
    print(f"overhead per trial: {overhead / num_trials:.2f} s")
    print(f"without the {start:.1f} s before the first trial: {(overhead - start * at_once) / num_trials:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16, int(sys.argv[2]) if len(sys.argv) > 2 else 2)
