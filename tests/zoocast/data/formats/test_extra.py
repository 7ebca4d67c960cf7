"""Libraries that only some formats need."""

import pytest

from zoocast.data.formats.extra import require
from zoocast.errors import ConfigError


def test_a_library_that_is_missing_is_named_with_its_command():
    assert require("json", extra="h5", what="a.h5").loads("1") == 1
    with pytest.raises(ConfigError, match=r"a.h5 is read by no_such_library, which is not here .*pip install 'zoocast\[h5\]'"):
        require("no_such_library", extra="h5", what="a.h5")
