"""Several machines with disks of their own: Ray nodes with separate caches, on an object store, and on one shared folder."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from pipelines.zoo_to_target import smoke, steps
from zoocast.cluster.connect import connect
from zoocast.dag import Resources, Step, StepContext, plan, run
from zoocast.dag.records import final_path
from zoocast.experiment.sources import _pretrain_worker
from zoocast.nn.predictor import Predictor, read_description, save_predictor
from zoocast.store.address import open_root
from zoocast.training import Worker
from zoocast.zoo import SourceConfig


class Nodes:
    """A Ray cluster whose nodes each have a cache folder of their own."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args={**self._arguments("head", 0), "include_dashboard": False})
        self._nodes = {name: self.cluster.add_node(**self._arguments(name, 1)) for name in ("one", "two")}

    def _arguments(self, name, cpus):
        environment = {"ZOOCAST_CACHE": str(self.cache(name))}
        return {"num_cpus": cpus, "object_store_memory": 80 * 2**20, "env_vars": environment}

    @property
    def names(self):
        return list(self._nodes)

    def cache(self, name):
        return self.folder / name

    def lose(self, name):
        self.cluster.remove_node(self._nodes[name], allow_graceful=False)


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
    preset = smoke()
    trained = {s.name: s for s in steps(preset)}["source.digits-1"]
    torch.manual_seed(0)
    save_predictor(Predictor(preset.target.predictor, preset.target.data.frame_shape()), tmp_path / "old")
    config = dataclasses.replace(preset, sources=(SourceConfig(name="old", model=str(tmp_path / "old")),), seeds=1)
    target = {s.name: s for s in steps(config)}["target.tmu.seed0"]

    shared = run([target], tmp_path, run_id="zoo")
    assert shared.exit_code == 0, shared
    assert not list(nodes.folder.iterdir())  # where all see one folder, that is all there is
    bucket = open_root(f"{store}/zoo")
    root = bucket.folder
    result = run([target, trained], root, run_id="zoo")
    assert result.exit_code == 0, result
    digests = {name: outcome.result["digest"] for name, outcome in shared.outcomes.items() if "digest" in outcome.result}
    assert set(digests) == {"data.target", "source.old", "bank.old"}
    assert {name: result.outcomes[name].result["digest"] for name in digests} == digests
    assert model(bucket.fetch(target.folder)) == model(final_path(tmp_path, target))

    # In Ray Train workers as well the bits are those of a training in this process.
    torch.set_num_threads(1)
    data = bucket.fetch(trained.inputs["data"].folder)
    _pretrain_worker(StepContext.standalone(tmp_path / "here", trained.config, {"data": data}), Worker())
    assert model(bucket.fetch(trained.folder)) == model(tmp_path / "here")

    for name in nodes.names:  # both have worked, each on its own disk
        assert list(nodes.cache(name).glob("roots/*/steps/*/done.json"))
    # The driver's machine has the records and what was asked for; the bank lies where it is read.
    assert [p.name for p in (root / "steps" / target.inputs["banks/old"].folder).iterdir()] == ["done.json"]
    monkeypatch.setenv("ZOOCAST_CACHE", str(nodes.cache("another driver")))
    assert {s.state for s in plan([target, trained], open_root(f"{store}/zoo").folder).steps} == {"done"}


def model(folder):
    return read_description(folder / "model").digest


def count(context: StepContext) -> dict[str, list[str]]:
    """Count to 5 with a checkpoint for each number, and remember on whose disk; the first machine never gets beyond 3."""
    path, machine = context.directory / "checkpoint.json", Path(os.environ["ZOOCAST_CACHE"]).name
    seen = json.loads(path.read_text()) if path.exists() else []
    while len(seen) < 5:
        seen.append(machine)
        path.write_text(json.dumps(seen))
        context.push()
        while seen == [machine] * 3:
            time.sleep(0.1)
    return {"seen": seen}


def test_work_on_a_node_that_was_lost_goes_on_elsewhere_from_what_it_had_handed_over(nodes, store):
    bucket = open_root(f"{store}/lost")
    step, lost = Step("count", count, resources=Resources(1)), []

    def lose_its_node(event):
        if event.kind == "started" and not lost:
            while (entry := bucket.unfinished.index(step.folder).get("checkpoint.json")) is None or entry.version < 3:
                time.sleep(0.1)
            lost.extend(set(json.loads(bucket.unfinished.content(step.folder, "checkpoint.json", entry.sha256))))
            nodes.lose(*lost)

    result = run([step], bucket.folder, run_id="lost", on_event=lose_its_node)
    assert result.outcomes["count"].state == "done", result.outcomes["count"].error
    (other,) = set(nodes.names) - set(lost)
    assert result.outcomes["count"].result == {"seen": lost * 3 + [other] * 2}
