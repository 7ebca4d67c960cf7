"""The soup: where it starts."""

import dataclasses

import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.transfer import Soup


def test_a_soup_of_two_is_their_mean(zoo, setup):
    soup = Soup().build(setup).exported.state_dict()
    one, two = (source.state_dict() for source in zoo.values())
    for name, weights in soup.items():
        torch.testing.assert_close(weights, (one[name] + two[name]) / 2, rtol=0, atol=1e-7)


def test_a_source_that_does_not_fit_is_not_in_the_soup(zoo, setup):
    soup = Soup().build(dataclasses.replace(setup, fitting=("two",))).exported.state_dict()
    assert all(torch.equal(soup[name], weights) for name, weights in zoo["two"].state_dict().items())
    with pytest.raises(ConfigError, match=r"target.predictor: no source has the target's architecture"):
        Soup().build(dataclasses.replace(setup, fitting=(), best=None))
