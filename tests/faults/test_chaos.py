"""Two rounds of what `make chaos` does twenty of."""

import pytest

from tests.faults.chaos import chaos


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_random_kills_change_nothing() -> None:
    with chaos() as it:
        rounds = [it.round(seed, most_kills=2) for seed in (1, 2)]
    assert [str(r) for r in rounds if r.broken] == []
    assert sum(sum(r.kills.values()) for r in rounds) >= 2
