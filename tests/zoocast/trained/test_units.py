"""Values in the units of data: to the network and back, and what is refused."""

import numpy as np
import pytest

from zoocast.data.store import Channel, ClipsRecipe
from zoocast.errors import DataError
from zoocast.frames import FrameShape
from zoocast.trained.units import Units


def units(*channels):
    shape = FrameShape(channels=len(channels), height=2, width=2)
    recipe = ClipsRecipe(shape=shape, length=2, dtype="float32", value_range=(0, 1), generator={}, channels=channels)
    return Units.of(recipe)


def test_each_channel_goes_to_the_network_and_back_by_its_own_scale():
    weather = units(Channel(name="t2m", unit="K", offset=250, factor=60), Channel(name="tp", unit="mm", offset=0, factor=20))
    values = np.stack([np.full((2, 2), 280.0), np.full((2, 2), 5.0)])[None]
    network = weather.for_network(values)
    assert network[0, :, 0, 0] == pytest.approx([0.5, 0.25])
    assert weather.of_network(network, values.dtype) == pytest.approx(values)
    assert (weather.unit, weather.channels) == ("K, mm", ("t2m", "tp"))
    # Beyond what training knew, as clips are stored: the end of the range.
    assert weather.for_network(values + 30)[0, :, 0, 0] == pytest.approx([1, 1])


def test_celsius_where_kelvin_was_trained_on_is_refused():
    kelvin = units(Channel(name="t2m", unit="K", offset=250, factor=60))
    with pytest.raises(DataError, match=r"trained on values of 250 to 310 K, but got 7 to 7 K; bring them to that range"):
        kelvin.for_network(np.full((1, 1, 2, 2), 7.0))


@pytest.mark.parametrize("factor", [1.0, 255.0])
def test_bytes_and_floats_without_a_unit_are_what_they_always_were(factor):
    assert units(Channel(name="0", factor=factor)) == Units()
