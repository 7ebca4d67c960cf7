"""What is said when memory is not enough, from real failed allocations."""

import numpy as np
import pytest
import torch

from zoocast.dag.memory import lack_of_memory, machine_bytes

PEBIBYTE = 2**50


def told(allocate):
    with pytest.raises((MemoryError, RuntimeError)) as failed:
        allocate()
    return str(lack_of_memory("target.scratch", failed.value))


@pytest.mark.parametrize(
    ("allocate", "wanted"),
    [
        (lambda: torch.empty(PEBIBYTE, dtype=torch.uint8), "1024.0 TiB"),
        (lambda: np.empty(PEBIBYTE, np.uint8), "1.00 PiB"),
    ],
    ids=["torch", "numpy"],
)
def test_a_failed_allocation_is_told_with_what_was_wanted_what_is_there_and_the_settings(allocate, wanted):
    message = told(allocate)
    assert message.startswith(f"step target.scratch: out of memory: it asked for {wanted} at once, where ")
    assert " GiB, " in message
    assert message.endswith(
        " of them free; lower training.batch_size, predictor.hidden_channels or data.length, or raise predictor.patch_size"
    )


def test_that_of_a_gpu_is_told_with_its_memory():
    words = (
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 10.12 GiB is free."
        " Process 7 has 129.68 GiB memory in use."
    )
    message = str(lack_of_memory("x", torch.OutOfMemoryError(words)))
    assert (
        "it asked for 20.00 GiB at once, where GPU 0 has a total capacity of 139.80 GiB of which 10.12 GiB is free; lower"
        in message
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory")])
def test_some_say_no_number(error):
    assert "it asked for more memory at once, where" in str(lack_of_memory("x", error))


def test_other_errors_are_not_about_memory():
    assert lack_of_memory("x", RuntimeError("size mismatch")) is None


def test_the_machine_has_some_memory():
    assert 2**28 < machine_bytes() < PEBIBYTE
