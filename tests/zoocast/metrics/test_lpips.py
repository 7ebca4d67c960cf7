"""LPIPS with random weights against its definition; the published weights cannot be had here."""

import hashlib
from pathlib import Path

import pytest
import torch

from zoocast.errors import ConfigError, DataError
from zoocast.metrics.lpips import CONVOLUTIONS, Lpips


def weights() -> dict[str, torch.Tensor]:
    """Under the names of the package `lpips`, whose slices begin before each rectifier's end."""
    torch.manual_seed(0)
    found = {}
    for i, (at, shape, *_) in enumerate(CONVOLUTIONS):
        found[f"net.slice{i + 1}.{at}.weight"] = torch.randn(shape) / (shape[1] * shape[2] * shape[3]) ** 0.5
        found[f"net.slice{i + 1}.{at}.bias"] = 0.1 * torch.randn(shape[0])
        found[f"lin{i}.model.1.weight"] = torch.rand(1, shape[0], 1, 1)
    return found


def write(path: Path, state: object) -> tuple[Path, str]:
    torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def by_definition(state: dict[str, torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> float:
    """AlexNet as layers of torch, one frame, and the distance of each place as a sum over channels."""
    pool, relu = torch.nn.MaxPool2d(3, 2), torch.nn.ReLU()
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    total, seen = 0.0, [((2 * frame - 1).repeat(3 // len(frame), 1, 1) - shift) / scale for frame in (a, b)]
    for i, (at, shape, stride, padding) in enumerate(CONVOLUTIONS):
        layer = torch.nn.Conv2d(shape[1], shape[0], shape[2], stride, padding)
        layer.weight.data, layer.bias.data = state[f"net.slice{i + 1}.{at}.weight"], state[f"net.slice{i + 1}.{at}.bias"]
        seen = [relu(layer(pool(x) if i in (1, 2) else x)) for x in seen]
        unit = [x / x.norm(dim=0) for x in seen]
        linear = state[f"lin{i}.model.1.weight"].view(-1, 1, 1)
        total += float((linear * (unit[0] - unit[1]) ** 2).sum(0).mean())
    return total


@pytest.mark.parametrize("channels", [1, 3])
def test_the_distance_is_that_of_the_definition(tmp_path: Path, channels: int) -> None:
    state = weights()
    a, b = torch.rand(2, 2, channels, 32, 48)
    with torch.no_grad():
        expected = [by_definition(state, *pair) for pair in zip(a, b, strict=True)]
    found = Lpips.read(*write(tmp_path / "alex.pth", state))(a, b)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert Lpips.read(*write(tmp_path / "alex.pth", state))(a, a).tolist() == [0, 0]


def test_other_weights_than_those_named_are_refused(tmp_path: Path) -> None:
    path, sha256 = write(tmp_path / "alex.pth", {"net.slice1.0.weight": torch.zeros(3)})
    with pytest.raises(ConfigError, match=f"SHA-256 of .* is {sha256}; give that"):
        Lpips.read(path, "0" * 64)
    with pytest.raises(DataError, match=r"weight of shape \(64, 3, 11, 11\), but there is \(3,\)"):
        Lpips.read(path, sha256)
    with pytest.raises(ConfigError, match="is not a file"):
        Lpips.read(tmp_path / "nothing.pth", sha256)


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def test_nothing_in_the_file_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="cannot be read as weights"):
        Lpips.read(*write(tmp_path / "evil.pth", {"net": Runs()}))
    assert "run" not in capsys.readouterr().out
