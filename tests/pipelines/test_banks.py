"""A bank per source: what a zoo's banks hang on, who shares them, and when building one may begin."""

import dataclasses
import time

import pytest

from pipelines import ablation, seemore_search, zoo_to_seemore, zoo_to_target
from pipelines.zoo_to_target import steps
from zoocast.config import override, parse_overrides
from zoocast.dag import plan
from zoocast.dag.records import Record, partial_path, publish_step
from zoocast.errors import ConfigError

SMOKE = zoo_to_target.PRESETS["smoke"]()
THIRD = dataclasses.replace(
    SMOKE.sources[0], name="digits-3", data=dataclasses.replace(SMOKE.sources[0].data, num_digits=3, seed=7)
)
PIPELINES = {
    "zoo-to-target": zoo_to_target,
    "seemore-search": seemore_search,
    "zoo-to-seemore": zoo_to_seemore,
    "ablation": ablation,
}


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def made(config=SMOKE):
    return {step.name: step for step in steps(config)}


def group(step, name):
    """The inputs of a step in a group, by their names in it."""
    return {key.partition("/")[2]: parent for key, parent in step.inputs.items() if key.startswith(f"{name}/")}


def banks(config):
    return {name: step.key for name, step in made(config).items() if name.startswith("bank.")}


def test_a_third_source_plans_itself_its_bank_and_what_reads_them(tmp_path):
    for step in steps(SMOKE):
        partial_path(tmp_path, step).mkdir(parents=True)
        now = time.time()
        publish_step(tmp_path, step, Record.of(step, {}, started=now - 2, finished=now, host="h", run="r", files={}))
    assert plan(steps(SMOKE), tmp_path).work == ()

    larger = dataclasses.replace(SMOKE, sources=(*SMOKE.sources, THIRD))
    found = plan(steps(larger), tmp_path)
    arms = ("finetune.digits-3", "l2-sp", "tmu")  # the one of its own, the one of the best source, and the one of all
    assert {s.step.name for s in found.work} == {
        *("data.digits-3", "source.digits-3", "bank.digits-3", "rank", "report"),
        *(f"target.{arm}.seed{k}" for arm in arms for k in (0, 1)),
        *(f"evaluate.{arm}" for arm in arms),
    }
    assert {s.step.name for s in found.steps if s.state == "done"} >= {"bank.digits-1", "bank.digits-2"}


def test_subsets_share_banks_by_key():
    both = banks(SMOKE)
    assert set(both) == {"bank.digits-1", "bank.digits-2"}
    for source in SMOKE.sources:
        alone = banks(dataclasses.replace(SMOKE, sources=(source,)))
        assert alone == {f"bank.{source.name}": both[f"bank.{source.name}"]}
    turned = dataclasses.replace(SMOKE, sources=SMOKE.sources[::-1])
    assert banks(turned) == both
    # The order of a target's sources is that of its transfer units, so the target is another one.
    assert made(turned)["target.tmu.seed0"].key != made()["target.tmu.seed0"].key


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_bank_waits_for_its_own_source_and_for_no_other(pipeline):
    module = PIPELINES[pipeline]
    everything = module.steps(module.PRESETS["smoke"]())
    for step in everything:
        if step.name.startswith("bank."):
            assert {name: parent.name for name, parent in step.inputs.items()} == {
                "data": "data.target",
                "source": step.name.replace("bank.", "source."),
            }
    readers = [step for step in everything if group(step, "banks")]
    for step in readers:
        assert list(group(step, "banks")) == list(group(step, "sources"))
        for name, bank in group(step, "banks").items():
            assert (bank.name, bank.inputs["source"]) == (f"bank.{name}", group(step, "sources")[name])
    stored = {step for step in everything if step.name.startswith("bank.")}
    assert stored == {bank for step in readers for bank in group(step, "banks").values()}
    assert bool(stored) == (pipeline != "seemore-search")  # which has no zoo


@pytest.mark.parametrize(
    ("items", "rebuilt"),
    [
        (["target.training.learning_rate=0.5", "target.training.iterations=7"], set()),
        (["target.predictor.cell.kernel_size=5", "transfer.warm_start=none"], set()),
        (["target.predictor.hidden_channels=4,4", "transfer.warm_start=none"], set()),
        (["transfer.tmu.combine=residual", "transfer.tmu.layers=first"], set()),
        (["bank_workers.num_workers=5", "bank_workers.cpus_per_worker=2"], set()),
        # Another number of layers is another layer map.
        (["target.predictor.hidden_channels=8,8,8", "transfer.warm_start=none"], {"bank.digits-1", "bank.digits-2"}),
        (["sources.digits-1.training.learning_rate=0.5"], {"bank.digits-1"}),
        (["bank.dtype=float32"], {"bank.digits-1", "bank.digits-2"}),
        (["target.data.seed=9"], {"bank.digits-1", "bank.digits-2"}),
        (["observed=2"], {"bank.digits-1", "bank.digits-2"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bank_is_built_again_only_for_what_its_numbers_hang_on(items, rebuilt):
    before, after = banks(SMOKE), banks(changed(*items))
    assert {name for name in before if before[name] != after[name]} == rebuilt


def test_memories_of_every_source_are_checked_before_any_work_starts():
    gru = ("sources.1.predictor.cell=convgru", "bank.memory=c")
    with pytest.raises(ConfigError, match=r"^bank.memory: source digits-2, layer 0 .convgru. has no memory 'c'"):
        steps(changed(*gru))
