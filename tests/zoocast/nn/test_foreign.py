"""Checkpoints of others' trainers: what is looked through, what is refused, and that nothing in them runs or swells."""

import argparse
import os
import pathlib
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from zoocast.errors import DataError
from zoocast.nn.foreign import read_weights

GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"


def weights():
    return torch.load(GOLDENS / "predrnn_v2.ckpt", weights_only=True)["net_param"]


def named(prefix):
    return {prefix + name: value for name, value in weights().items()}


def saved(path, data, **options):
    torch.save(data, path, **options)
    return path


OPTIMIZER = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]}


@pytest.mark.parametrize(
    "data",
    [
        {"net_param": named("module.")},
        {"net_param": named("_orig_mod.")},
        {"epoch": 3, "state_dict": named("model."), "hyper_parameters": {"lr": 1e-3}, "optimizer_states": [OPTIMIZER]},
        {"state_dict": named("model.module._orig_mod."), "hyper_parameters": argparse.Namespace(lr=1e-3)},
        {"state_dict": {**named("model."), "criterion.weight": torch.zeros(2)}},
        {"model": weights(), "optimizer": OPTIMIZER},
        {"model_state_dict": weights(), "optimizer_state_dict": OPTIMIZER},
        {"model": weights(), "model_ema": {name: torch.zeros(1) for name in weights()}},
        {"state_dict": {**named("model."), **{f"ema.module.{name}": torch.zeros(1) for name in weights()}}},
        {"state_dict_ema": weights()},
        {"anything": {"else": weights()}},
        {"net_param": weights(), "best_mse": np.float64(31.2), "last": np.float32(1), "seen": np.zeros(3), "rng": np.int64(1)},
        {"net_param": weights(), "data": pathlib.PurePosixPath("/data")},
        {**weights(), "epoch": 3},
    ],
    ids=lambda data: "-".join(map(str, list(data)[:2])),
)
def test_what_trainers_wrap_around_weights_is_looked_through(data, tmp_path):
    read = read_weights(saved(tmp_path / "wrapped.ckpt", data))
    assert read.keys() == weights().keys()
    assert all(torch.equal(read[name], value) for name, value in weights().items())


def test_both_directions_of_seemore_keep_their_names_in_a_wrapper(tmp_path):
    both = torch.load(GOLDENS / "seemore_stage1.ckpt", weights_only=True)["net_param"]
    path = saved(tmp_path / "seemore.ckpt", {"state_dict": {f"model.{name}": value for name, value in both.items()}})
    assert read_weights(path).keys() == both.keys()


def test_safetensors_and_the_legacy_format_are_read(tmp_path):
    safetensors.torch.save_file(named("model."), tmp_path / "model.safetensors")
    legacy = saved(tmp_path / "legacy.pth", {"model": weights()}, _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "model.safetensors").keys() == read_weights(legacy).keys() == weights().keys()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "holds no weights by name; expected .*; it holds nothing"),
        ({"optimizer": OPTIMIZER, "epoch": 3}, "holds no weights by name; expected .*; it holds optimizer, epoch"),
        ({"state_dict": {**named("student."), **named("teacher.")}}, r"holds several networks, student\., teacher\.; save one"),
        ({"net_param": {**named("module."), **weights()}}, "holds .* twice"),
        (torch.nn.Conv2d(1, 1, 1), r"it asks for torch\.nn\.modules\.conv\.Conv2d, but nothing except tensors is read; save it"),
        (
            {f"cell_list.0.conv_{c}.0.weight": torch.zeros(32, 8, 3, 3) for c in "xho"},
            "holds a ConvLSTM as OpenSTL's, .* cannot be imported; give a checkpoint of ConvLSTM or TMU",
        ),
        ({"state_dict": {"model.gradient_highway.z_concat.0.weight": torch.zeros(2)}}, r"holds a PredRNN\+\+, which cannot"),
        ({"state_dict": {"model.hid.enc.0.block.weight": torch.zeros(2)}}, "holds a SimVP or one of its kin, which cannot"),
    ],
)
def test_what_is_no_network_of_ours_is_named_for_what_it_is(data, why, tmp_path):
    with pytest.raises(DataError, match=why):
        read_weights(saved(tmp_path / "other.ckpt", data))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "asks for 3.6 TiB of which the file holds 4 B"),
        (torch.empty(10**6, 10**6, device="meta"), "has a shape and no numbers"),
        (torch.zeros(4, 4).to_sparse(), "is stored as torch.sparse_coo, but weights are plain tensors"),
        (torch.zeros(2, dtype=torch.complex64), "holds torch.complex64, but weights are real numbers"),
        (torch.zeros(2, dtype=torch.int64), "holds torch.int64, but weights are real numbers"),
        (torch.full((2,), 1e300, dtype=torch.float64), "holds values that are not finite"),  # as float32, which weights are
    ],
    ids=str,
)
def test_what_cannot_be_a_weight_is_refused_before_memory_is_taken(value, why, tmp_path):
    path = saved(tmp_path / "hostile.ckpt", {"net_param": {**weights(), "adapter.weight": value}})
    with pytest.raises(DataError, match=f"adapter.weight {why}"):
        read_weights(path)


def test_an_archive_that_swells_is_refused_before_it_is_unpacked(tmp_path):
    plain = saved(tmp_path / "plain.ckpt", {"net_param": {"conv_last.weight": torch.zeros(10**6)}})
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in archive.infolist():
            bomb.writestr(entry, archive.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"bomb.ckpt has .* KiB, but unpacks to 3\.8 MiB"):
        read_weights(tmp_path / "bomb.ckpt")


class Calls:
    """Would make a folder if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_beside_the_weights_is_executed(tmp_path):
    data = {"net_param": weights(), "args": argparse.Namespace(trainer=Calls(tmp_path / "owned"))}
    with pytest.raises(DataError, match=r"it asks for .*mkdir, but nothing except tensors is read"):
        read_weights(saved(tmp_path / "hostile.ckpt", data))
    assert not (tmp_path / "owned").exists()
