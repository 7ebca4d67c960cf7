"""The ablation and the pipeline that joins both papers: their arms, what they share, and one whole run."""

import json
from pathlib import Path

import pytest
import torch

from pipelines import seemore_search, zoo_to_seemore, zoo_to_target
from pipelines.ablation import ALL, PRESETS, steps
from zoocast.config import override, parse_overrides
from zoocast.dag import read_record
from zoocast.errors import ConfigError
from zoocast.nn.predictor import Predictor, load_predictor, save_predictor
from zoocast.tracking import curves

SMOKE = PRESETS["smoke"]()


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def names(config):
    return {step.name for step in steps(config)}


def test_every_combination_is_an_arm():
    assert ALL == ("base", "lma", "bdn", "bdn-lma", "tmu", "tmu-lma", "tmu-bdn", "tmu-bdn-lma")
    assert {f"target.{arm}.seed{k}" for arm in ALL for k in (0, 1)} == {n for n in names(SMOKE) if n.startswith("target.")}


def test_arms_with_and_without_the_meta_adapter_share_their_first_stage():
    made = {step.name: step for step in steps(SMOKE)}
    assert {n for n in made if n.startswith("stage1.")} == {
        f"stage1.{a}.seed{k}" for a in ("base", "bdn", "tmu", "tmu-bdn") for k in (0, 1)
    }
    for arm in ("base", "bdn", "tmu", "tmu-bdn"):
        other = "lma" if arm == "base" else f"{arm}-lma"
        assert made[f"target.{arm}.seed1"].inputs["start"] is made[f"target.{other}.seed1"].inputs["start"]


def test_the_zoo_is_that_of_zoo_to_target():
    shared = {"data.digits-1", "data.digits-2", "data.target", "source.digits-1", "source.digits-2", "rank"}
    theirs = {s.name: s.key for s in zoo_to_target.steps(zoo_to_target.PRESETS["nested"]())}
    for module in (steps, zoo_to_seemore.steps):
        ours = {s.name: s.key for s in module(PRESETS["laptop"]())}
        assert {n for n in ours if ours[n] == theirs.get(n)} == shared


def test_zoo_to_seemore_leads_from_finetuning_to_both_papers():
    chosen = {n for n in names(zoo_to_seemore.PRESETS["smoke"]()) if n.startswith("evaluate.")}
    assert chosen == {"evaluate.base", "evaluate.tmu", "evaluate.tmu-bdn", "evaluate.tmu-bdn-lma"}


@pytest.mark.parametrize("presets", [PRESETS, zoo_to_seemore.PRESETS])
def test_paper_has_the_zoo_of_tmus_release_and_the_two_stages_of_seemores(presets):
    paper, zoo, seemore = presets["paper"](), zoo_to_target.PRESETS["paper"](), seemore_search.PRESETS["paper"]()
    assert (paper.zoo.sources, paper.zoo.target.predictor) == (zoo.sources, zoo.target.predictor)
    assert (paper.zoo.target.training, paper.stage2) == (seemore.target.training, seemore.training(0))
    assert (paper.curriculum, paper.adapter) == (seemore.stage2.curriculum, seemore.adapter)


def test_what_no_arm_needs_is_not_made():
    assert not any("bank" in n for n in names(changed("arms=base,lma,bdn,bdn-lma")))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["arms=base,dmn"], "arms: must be some of base, .*, each once, but got 'dmn'"),
        (["arms=base,base"], "arms: must be some of base, .*, each once, but got base, base"),
        (["zoo.tune=true"], "zoo.tune: must be false, for an arm's two stages are not tuned together, but got true"),
        (["zoo.bank.reversed=false"], "zoo.bank.reversed: must be true, for BDN's reverse network distils as well"),
        (["zoo.target.predictor.cell.kernel_size=5", "zoo.transfer.warm_start=none"], "zoo.target.predictor: no source has the"),
        (["zoo.observed=9"], "zoo.observed: must leave at least one of the 6 frames"),
        (["stage2.batch_size=3", "zoo.target.workers.num_workers=2"], "stage2.batch_size: must be a multiple of num_workers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_said_before_any_work_starts(items, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        steps(changed(*items))


# ------------------------------------------------------------------------------------------------------------------ one whole run


@pytest.fixture(scope="module")
def folders(shell, tmp_path_factory):
    """Folders of the finished steps, by name. The sources are there already: `test_zoo_to_target` trains some."""
    root, zoo = tmp_path_factory.mktemp("runs"), SMOKE.zoo
    chosen = ["zoo.seeds=1", "arms=base,tmu-bdn-lma"]
    for number, source in enumerate(zoo.sources):
        torch.manual_seed(number)
        folder = tmp_path_factory.mktemp(source.name)
        save_predictor(Predictor(source.predictor, source.data.frame_shape()), folder)
        chosen.append(f"zoo.sources.{number}.model={folder}")
    done = shell.run("run", "zoo-to-seemore", "--preset", "smoke", "-S", *chosen, "--root", str(root), timeout=280)
    assert done.returncode == 0, done.stderr
    return {read_record(path).name: path for path in (Path(root) / "steps").iterdir()}


def test_both_papers_together_export_one_plain_network(folders):
    base = load_predictor(folders["target.base.seed0"] / "model")
    joined = load_predictor(folders["target.tmu-bdn-lma.seed0"] / "model")
    assert base.config.tmu is None
    assert joined.config.num_sources == 2
    assert not any("reverse" in name or "distillation" in name for name in joined.state_dict())


def test_both_directions_distil_from_the_bank_and_every_level_has_its_rate(folders):
    told = curves(folders["target.tmu-bdn-lma.seed0"] / "journal.jsonl")
    assert {"train/mse", "train/distill", "train/reverse_mse", "train/reverse_distill", "train/feature", "train/frame"} <= set(
        told
    )
    levels = {f"{way}.{level}" for way in ("forward", "reverse") for level in ("cells.0", "cells.1", "head")}
    assert {f"rate/{level}" for level in levels} <= set(told)


def test_the_report_compares_all_parts_with_none(folders):
    result = json.loads((folders["report"] / "result.json").read_text())
    assert [row[0] for row in result["rows"]] == ["base", "tmu-bdn-lma"]
    assert "tmu-bdn-lma" in result["headline"]
