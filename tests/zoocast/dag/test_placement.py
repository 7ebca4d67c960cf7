"""What fits on which nodes."""

import pytest

from zoocast.dag import Resources, Step, StepContext
from zoocast.dag.placement import fits, nodes_of, require_room
from zoocast.errors import InfrastructureError


def work(_context: StepContext) -> dict[str, object]:
    return {}


def cpus(*counts: float) -> list[Resources]:
    return [Resources(num_cpus=n) for n in counts]


@pytest.mark.parametrize(
    ("nodes", "demands", "expected"),
    [
        (cpus(2), cpus(1, 1), True),
        (cpus(2), cpus(1, 1, 0.1), False),
        (cpus(2, 2), cpus(3), False),  # four CPUs in all, but no process spans two nodes
        (cpus(2, 3), cpus(1, 1, 3), True),  # the largest is placed first
        (cpus(1), cpus(*[0.1] * 10), True),  # ten tenths are one, whatever floats say
        (cpus(), cpus(0), False),
        ([Resources(num_cpus=8, num_gpus=1)], [Resources(num_gpus=0.5), Resources(num_gpus=0.5)], True),
        ([Resources(num_cpus=8, num_gpus=1)], [Resources(num_gpus=0.6), Resources(num_gpus=0.6)], False),
    ],
)
def test_demands_fit_when_each_finds_room_on_one_node_beside_the_others(
    nodes: list[Resources], demands: list[Resources], expected: bool
) -> None:
    assert fits(nodes, demands) is expected


def test_dead_nodes_have_no_resources() -> None:
    ray_nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "memory": 1e9}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
        {"Alive": True, "Resources": {"memory": 1e9}},
    ]
    assert nodes_of(ray_nodes) == [Resources(num_cpus=4, num_gpus=1), Resources(num_cpus=0)]


def test_a_step_that_fits_on_no_node_is_refused_by_name() -> None:
    step = Step("source.one", work, resources=Resources(num_cpus=4, num_gpus=1))
    with pytest.raises(InfrastructureError) as raised:
        require_room(cpus(2, 3), [Step("small", work), step])
    assert str(raised.value) == (
        "step source.one asks for 4 CPUs and 1 GPU, but the cluster's largest nodes have: 3 CPUs; 2 CPUs;"
        " ask for fewer CPUs, GPUs or workers, or give --address of a larger cluster"
    )


def test_workers_that_cannot_run_at_once_are_refused() -> None:
    step = Step("source.one", work, resources=Resources(num_cpus=0), launches=tuple(cpus(1, 1, 1)))
    with pytest.raises(InfrastructureError, match=r"asks for 3 workers at once, the largest with 1 CPU, but .* have: 2 CPUs;"):
        require_room(cpus(2), [step])
    require_room(cpus(2, 1), [step])


def test_a_single_worker_is_refused_in_the_singular() -> None:
    step = Step("source.one", work, resources=Resources(num_cpus=0), launches=(Resources(num_cpus=64),))
    with pytest.raises(InfrastructureError, match=r"source.one asks for a worker with 64 CPUs, but .* have: 2 CPUs;"):
        require_room(cpus(2), [step])
