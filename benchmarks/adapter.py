"""The meta-adapter's calls against the release's algorithm: time of a call, and the tensor memory that it needs at its peak.

    python benchmarks/adapter.py [laptop] [middle]

The release differentiates through the trial step with ``create_graph=True``, keeps moments by hand, mixes true and predicted
frames by arithmetic and compares memories step by step. It is written anew here and gives the same rates from the same weights
and clips. All calls take turns in random order on one thread; medians of its processor time are compared, which other work on the
machine disturbs least.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from zoocast.frames import FrameShape, patchify
from zoocast.nn.cells import STLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.nn.sampling import free_run
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter, level_of
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.training import Batch, PredictionObjective, TrainingConfig, Worker

ROUNDS = 9
SIZES = {
    # pixels, frames, batch, network
    "laptop": (32, 20, 8, PredictorConfig(cell=STLSTM(kernel_size=3, decouple=True), hidden_channels=(32, 32))),
    "middle": (64, 20, 2, PredictorConfig(cell=STLSTM(kernel_size=5, decouple=True), hidden_channels=(32,) * 4)),
}


Weights = dict[str, Tensor]


def released_direction(weights: Weights, frames: Tensor, mask: Tensor, layers: int) -> tuple[Tensor, Tensor, Tensor]:
    """PredRNN-V2 as the release unrolls it, on patches (B, T, C, h, w): frames, the last layer's outputs, and the loss."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight = weights[f"{name}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    def adapted(delta: Tensor) -> Tensor:
        return F.normalize(conv("adapter", delta).flatten(2), dim=2)

    n = weights["head.weight"].shape[1]
    zeros = torch.zeros(len(frames), n, *frames.shape[3:])
    h, c, m, out = [zeros] * layers, [zeros] * layers, zeros, frames[:, 0]
    outputs, features, decoupling = [], [], []
    for t in range(frames.shape[1] - 1):
        x = mask[:, t] * frames[:, t] + (1 - mask[:, t]) * out
        deltas = []
        for layer in range(layers):
            name = f"cells.{layer}"
            i, f, g, i2, f2, g2, o = conv(f"{name}.conv_x", x).split(n, dim=1)
            i_h, f_h, g_h, o_h = conv(f"{name}.conv_h", h[layer]).split(n, dim=1)
            i_m, f_m, g_m = conv(f"{name}.conv_m", m).split(n, dim=1)
            delta_c = torch.sigmoid(i + i_h) * torch.tanh(g + g_h)
            delta_m = torch.sigmoid(i2 + i_m) * torch.tanh(g2 + g_m)
            c[layer] = torch.sigmoid(f + f_h + 1.0) * c[layer] + delta_c
            m = torch.sigmoid(f2 + f_m + 1.0) * m + delta_m
            both = torch.cat([c[layer], m], dim=1)
            x = torch.sigmoid(o + o_h + conv(f"{name}.conv_o", both)) * torch.tanh(conv(f"{name}.conv_last", both))
            h[layer] = x
            deltas.append((adapted(delta_c), adapted(delta_m)))
        out = conv("head", x)
        outputs.append(out)
        features.append(x)
        decoupling += [torch.cosine_similarity(a, b, dim=2).abs().mean() for a, b in deltas]
    predicted = torch.stack(outputs, dim=1)
    loss = F.mse_loss(predicted, frames[:, 1:]) + 0.1 * torch.stack(decoupling).mean()
    return predicted, torch.stack(features, dim=1), loss


def released_loss(weights: Weights, batch: Batch, patch_size: int, layers: int) -> Tensor:
    """Both directions, and their distances."""

    def of(direction: str) -> Weights:
        start = f"{direction}_objective.predictor."
        return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}

    frames, mask = patchify(batch.clips, patch_size), batch.feed[..., None, None, None]
    ahead, ahead_h, loss = released_direction(of("forward"), frames, mask, layers)
    back, back_h, loss_back = released_direction(of("reverse"), frames.flip(1), mask, layers)
    distance = F.mse_loss(ahead_h[:, :-1], back_h.flip(1)[:, 1:]) + F.mse_loss(ahead[:, :-1], back.flip(1)[:, 1:])
    return loss + loss_back + distance


class ReleasedAdapter:
    """The release's two kinds of calls, step by step."""

    def __init__(self, objective: BidirectionalObjective) -> None:
        self.objective = objective
        self.layers, self.patch_size = len(objective.exported.layers), objective.exported.config.patch_size
        self.parameters = dict(objective.named_parameters())
        self.rates = {level: nn.Parameter(torch.full((1,), 1e-4)) for level in dict.fromkeys(map(level_of, self.parameters))}
        self.meta = torch.optim.Adam(self.rates.values(), lr=1e-7)
        self.trial_moments, self.moments = (
            [{n: torch.zeros_like(p) for n, p in self.parameters.items()} for _ in range(2)] for _ in range(2)
        )
        self.trial_count, self.count = 1, 1

    def loss(self, weights: Weights, batch: Batch) -> Tensor:
        return released_loss(weights, batch, self.patch_size, self.layers)

    def step(self, name: str, gradient: Tensor, moments: list[dict[str, Tensor]], count: int) -> Tensor:
        first, second = moments
        first[name][:] = 0.9 * first[name] + (1 - 0.9) * gradient
        second[name][:] = 0.999 * second[name] + (1 - 0.999) * gradient**2
        corrected, scale = first[name] / (1 - 0.9**count), second[name] / (1 - 0.999**count)
        return corrected / (torch.sqrt(scale) + 1e-8)

    def trial(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.loss(self.parameters, batch)
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
        loss = self.loss(state, batch)
        for direction in ("forward", "reverse"):
            levels = (*(f"cells.{i}" for i in range(self.layers)), "head")
            chain = [self.rates[f"{direction}.{level}"] for level in levels]
            loss = loss + 10 * sum(torch.relu(2 * a - b) for a, b in itertools.pairwise(chain))[0]
        loss.backward()
        self.meta.step()
        for rate in self.rates.values():
            rate.data.clamp_(0, 2e-4)

    def move_weights(self, batch: Batch) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()
        self.loss(self.parameters, batch).backward()
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
    # Between calls both hold the weights and two pairs of moments for each, and the release its gradients as well.
    size = sum(p.nbytes for p in ours.parameters.values())
    peaks = {call: (6 if "release" in call else 5) * size + peak_bytes(work) for call, work in calls.items()}
    seconds: dict[str, list[float]] = {call: [] for call in calls}
    for _ in range(ROUNDS):
        for call in random.sample(list(calls), len(calls)):
            started = time.process_time()
            calls[call]()
            seconds[call].append(time.process_time() - started)
    medians = {call: statistics.median(times) for call, times in seconds.items()}
    cells = f"{network.cell.kind} {network.hidden_channels}, kernel {network.cell.kernel_size}"
    print(f"{name}: {cells}, {clips} clips of {length} {frames}")
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
