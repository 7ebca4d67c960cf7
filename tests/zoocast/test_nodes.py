"""Several machines with disks of their own: Ray nodes with separate caches, on an object store, and on one shared folder."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import pytest

from pipelines.zoo_to_target import smoke, steps
from zoocast.cluster import connect
from zoocast.dag import Resources, Step, StepContext, plan, run, select
from zoocast.dag.records import final_path
from zoocast.nn.predictor import read_description
from zoocast.remote import mirror_of, open_root


class Nodes:
    """A Ray cluster whose nodes each have a cache folder of their own."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args=self._arguments("head", 0))

    def _arguments(self, name, cpus):
        return {
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,
            "env_vars": {"ZOOCAST_CACHE": str(self.cache(name))},
        }

    def cache(self, name):
        return self.folder / name

    def add(self, name):
        arguments = self._arguments(name, 1)
        del arguments["include_dashboard"]
        return self.cluster.add_node(**arguments)

    def lose(self, node):
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(store, tmp_path_factory):  # noqa: ARG001 nodes inherit the way to the store
    import ray.cloudpickle

    # Workers cannot import a test module under the name that pytest gave it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("caches")
        patch.setenv("ZOOCAST_CACHE", str(folder / "driver"))
        nodes = Nodes(folder)
        try:
            with connect(nodes.cluster.address):
                yield nodes
        finally:
            nodes.cluster.shutdown()


def test_the_zoo_ends_with_the_same_bits_on_an_object_store_as_in_a_folder(nodes, store, tmp_path, monkeypatch):
    pair = [nodes.add("one"), nodes.add("two")]
    config = dataclasses.replace(smoke(), sources=smoke().sources[:1], seeds=1)
    chosen = {s.name: s for s in steps(config)}
    selected = select(chosen.values(), until="target.tmu.seed0")
    ends = {}
    for root in map(open_root, (tmp_path, f"{store}/zoo")):
        result = run(chosen.values(), root, run_id="zoo", selected=selected)
        assert {name: outcome.state for name, outcome in result.outcomes.items()} == dict.fromkeys(result.outcomes, "done")
        print({n: round(o.seconds, 1) for n, o in result.outcomes.items()})
        mirror = mirror_of(root)
        models = {
            name: mirror.fetch(chosen[name].folder) if mirror else final_path(root, chosen[name])
            for name in ("source.digits-1", "target.tmu.seed0")
        }
        ends[root] = {
            **{name: outcome.result.get("digest") for name, outcome in result.outcomes.items()},
            **{name: read_description(folder / "model").digest for name, folder in models.items()},
        }
        if mirror is None:  # nothing but the folder is used, as ever
            assert not nodes.folder.exists() or not list(nodes.folder.iterdir())
    local, remote = ends.values()
    assert local == remote
    assert local["bank"]
    assert list(nodes.cache("one").glob("roots/*/steps/*"))
    assert list(nodes.cache("two").glob("roots/*/steps/*"))
    # The driver's own machine holds the records, and what was asked for; the bank lies where it is read.
    assert [p.name for p in (root / "steps" / chosen["bank"].folder).iterdir()] == ["done.json"]
    for node in pair:
        nodes.lose(node)

    monkeypatch.setenv("ZOOCAST_CACHE", str(nodes.cache("another driver")))
    assert {s.state for s in plan(chosen.values(), open_root(f"{store}/zoo"), selected=selected).steps} == {"done"}


def count(context: StepContext) -> dict[str, list[str]]:
    """Count to 5 with a checkpoint for each number, and remember whose disk it was on; the first machine never gets beyond 3."""
    path, machine = context.directory / "checkpoint.json", Path(os.environ["ZOOCAST_CACHE"]).name
    seen = json.loads(path.read_text()) if path.exists() else []
    while len(seen) < 5:
        seen.append(machine)
        path.write_text(json.dumps(seen))
        context.push()
        while machine == "first" and len(seen) == 3:
            time.sleep(0.1)
    return {"seen": seen}


def test_work_on_a_node_that_was_lost_goes_on_elsewhere_from_what_it_had_handed_over(nodes, store):
    root = open_root(f"{store}/lost")
    first = nodes.add("first")
    step, mirror = Step("count", count, resources=Resources(1)), mirror_of(root)

    def lose_its_node(event):
        if event.kind == "started":
            while "checkpoint.json" not in mirror.index(step.folder) or mirror.index(step.folder)["checkpoint.json"].version < 3:
                time.sleep(0.1)
            nodes.add("second")
            nodes.lose(first)

    result = run([step], root, run_id="lost", on_event=lose_its_node)
    assert result.outcomes["count"].state == "done", result.outcomes["count"].error
    assert result.outcomes["count"].result == {"seen": ["first"] * 3 + ["second"] * 2}
