"""The meta-adapter's calls against the release's algorithm: time of a call, and the tensor memory that it needs at its peak.

    python benchmarks/adapter.py [laptop] [middle]

The release differentiates through the trial step with ``create_graph=True`` and keeps moments by hand; it is written anew here for
the same networks, clips and thread, and gives the same rates. All calls take turns in random order; the medians are compared.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.nn.sampling import free_run
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter, level_of
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.training import Batch, PredictionObjective, TrainingConfig, Worker

ROUNDS = 15
SIZES = {
    # pixels, frames, batch, network
    "laptop": (32, 20, 8, PredictorConfig(cell="stlstm", decouple=True, hidden_channels=(32, 32), kernel_size=3)),
    "middle": (64, 20, 2, PredictorConfig(cell="stlstm", decouple=True, hidden_channels=(32,) * 4, kernel_size=5)),
}


class ReleasedAdapter:
    """The release's two kinds of calls, step by step."""

    def __init__(self, objective: BidirectionalObjective) -> None:
        self.objective = objective
        self.parameters = dict(objective.named_parameters())
        self.rates = {level: nn.Parameter(torch.full((1,), 1e-4)) for level in dict.fromkeys(map(level_of, self.parameters))}
        self.meta = torch.optim.Adam(self.rates.values(), lr=1e-7)
        self.trial_moments, self.moments = (
            [{n: torch.zeros_like(p) for n, p in self.parameters.items()} for _ in range(2)] for _ in range(2)
        )
        self.trial_count, self.count = 1, 1

    def step(self, name: str, gradient: Tensor, moments: list[dict[str, Tensor]], count: int) -> Tensor:
        first, second = moments
        first[name][:] = 0.9 * first[name] + (1 - 0.9) * gradient
        second[name][:] = 0.999 * second[name] + (1 - 0.999) * gradient**2
        corrected, scale = first[name] / (1 - 0.9**count), second[name] / (1 - 0.999**count)
        return corrected / (torch.sqrt(scale) + 1e-8)

    def trial(self, batch: Batch) -> dict[str, Tensor]:
        loss = sum(self.objective(batch).values())
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), create_graph=True)
        state = {name: value.clone() for name, value in self.objective.state_dict().items()}
        for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True):
            u = self.step(name, gradient.data, self.trial_moments, self.trial_count)
            state[name] = parameter.data - self.rates[level_of(name)] * u
        self.trial_count += 1
        return state

    def move_rates(self, batch: Batch) -> None:
        self.meta.zero_grad()
        state = self.trial(batch)
        loss = sum(functional_call(self.objective, state, (batch,)).values())
        for direction in ("forward", "reverse"):
            layers = len(self.objective.predictor.layers)
            chain = [self.rates[f"{direction}.{level}"] for level in (*(f"cells.{i}" for i in range(layers)), "head")]
            loss = loss + 10 * sum(torch.relu(2 * a - b) for a, b in zip(chain[:-1], chain[1:], strict=True))[0]
        loss.backward()
        self.meta.step()
        for rate in self.rates.values():
            rate.data.clamp_(0, 2e-4)

    def move_weights(self, batch: Batch) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()
        sum(self.objective(batch).values()).backward()
        for name, parameter in self.parameters.items():
            u = self.step(name, parameter.grad.data, self.moments, self.count)
            parameter.data = parameter.data - self.rates[level_of(name)].data * u
        self.count += 1


def build(frames: FrameShape, network: PredictorConfig) -> BidirectionalObjective:
    torch.manual_seed(0)
    ahead, back = (PredictionObjective(Predictor(network, frames), 0.1) for _ in range(2))
    return BidirectionalObjective(ahead, back, BidirectionalConfig())


def peak_bytes(work: Callable[[], object]) -> int:
    """The most tensor memory that `work` held at once, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(name: str) -> None:
    pixels, length, clips, network = SIZES[name]
    frames = FrameShape(channels=1, height=pixels, width=pixels)
    released = ReleasedAdapter(build(frames, network))
    config = AdapterConfig(cycle=2, rate_iterations=1)
    ours = MetaAdapter(config, build(frames, network), TrainingConfig(batch_size=clips), Worker())
    batch = Batch(torch.arange(clips), torch.rand(clips, length, 1, pixels, pixels), free_run(clips, length // 2, length), False)
    calls: dict[str, Callable[[], object]] = {
        "learning-rate call, release": lambda: released.move_rates(batch),
        "learning-rate call, ours": lambda: ours.update(batch, 0),
        "weight call, release": lambda: released.move_weights(batch),
        "weight call, ours": lambda: ours.update(batch, 1),
    }
    for call in calls.values():
        call()
    torch.testing.assert_close(torch.cat([r.detach() for r in released.rates.values()]), ours.rates.detach(), rtol=0, atol=1e-9)
    # Weights and two pairs of moments for each, which both ways hold between calls.
    standing = 5 * sum(p.nbytes for p in ours.parameters.values())
    peaks = {call: standing + peak_bytes(work) for call, work in calls.items()}
    seconds: dict[str, list[float]] = {call: [] for call in calls}
    for _ in range(ROUNDS):
        for call in random.sample(list(calls), len(calls)):
            started = time.perf_counter()
            calls[call]()
            seconds[call].append(time.perf_counter() - started)
    medians = {call: statistics.median(times) for call, times in seconds.items()}
    print(f"{name}: {network.cell} {network.hidden_channels}, kernel {network.kernel_size}, {clips} clips of {length} {frames}")
    for call in calls:
        print(f"  {call:30}{medians[call]:8.3f} s{peaks[call] / 2**20:9.1f} MiB")
    for kind in ("learning-rate", "weight"):
        theirs, mine = f"{kind} call, release", f"{kind} call, ours"
        print(
            f"  {kind} call, ours / release: time {medians[mine] / medians[theirs]:.2f}, memory {peaks[mine] / peaks[theirs]:.2f}"
        )
    ratio = peaks["learning-rate call, ours"] / peaks["weight call, ours"]
    print(f"  ours, learning-rate / weight call: memory {ratio:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for size in sys.argv[1:] or SIZES:
        measure(size)
