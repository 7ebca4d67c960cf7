"""Leaving each source out: what subsets share, what is refused, and a whole run of the same lines in a package of one's own."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import pipelines.leave_one_source_out
from pipelines import zoo_to_target
from pipelines.leave_one_source_out import PRESETS, steps
from zoocast.config import override, parse_overrides
from zoocast.dag import read_record
from zoocast.errors import ConfigError
from zoocast.nn.predictor import Predictor, load_predictor, save_predictor

SMOKE, LAPTOP = PRESETS["smoke"](), PRESETS["laptop"]()


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def named(config):
    return {step.name: step for step in steps(config)}


# ------------------------------------------------------------------------------------------------------------------- the graph


def test_every_source_is_left_out_once_and_is_alone_once():
    arms = {name.removeprefix("evaluate.") for name in named(LAPTOP) if name.startswith("evaluate.tmu")}
    names = [source.name for source in LAPTOP.sources]
    assert names == ["digits-1", "digits-2", "still"]
    assert arms == {"tmu", *(f"tmu.without.{name}" for name in names), *(f"tmu.only.{name}" for name in names)}


def test_of_two_sources_the_one_without_the_other_is_the_other_alone():
    arms = {name for name in named(SMOKE) if name.startswith("evaluate.tmu")}
    assert arms == {"evaluate.tmu", "evaluate.tmu.only.digits-1", "evaluate.tmu.only.digits-2"}


def test_subsets_share_their_sources_and_banks_and_rank_by_themselves():
    made = named(LAPTOP)
    assert {name for name in made if name.startswith("bank.")} == {"bank.digits-1", "bank.digits-2", "bank.still"}
    assert {name for name in made if name.startswith("source.")} == {"source.digits-1", "source.digits-2", "source.still"}
    assert {name for name in made if name.startswith("rank")} == {
        "rank",
        *(f"rank.{kind}.{source.name}" for kind in ("without", "only") for source in LAPTOP.sources),
    }
    whole, part = made["target.tmu.seed0"].inputs, made["target.tmu.without.still.seed0"].inputs
    assert set(whole) - set(part) == {"sources/still", "banks/still"}
    assert all(part[name] is whole[name] for name in part if name != "rank")


def test_what_zoo_to_target_has_made_is_not_made_again():
    theirs = {step.name: step.key for step in zoo_to_target.steps(SMOKE)}
    ours = {step.name: step.key for step in steps(SMOKE)}
    assert {name for name in theirs if ours.get(name) != theirs[name]} == {"report"}


def test_a_further_source_leaves_what_the_others_made():
    before = named(changed(config=zoo_to_target.nested()))
    after = named(LAPTOP)
    kept = {name for name in before if name in after and after[name].key == before[name].key}
    assert {"bank.digits-1", "bank.digits-2", "rank.only.digits-1", "evaluate.tmu.only.digits-2", "evaluate.scratch"} <= kept
    # The arm with all sources of before is now the one without the further source, and its trainings are the same steps.
    assert after["target.tmu.without.still.seed0"].key == before["target.tmu.seed0"].key


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            ["sources.1.predictor.hidden_channels=4,4"],
            r"transfer.warm_start: no source has the target's network, .* \(looked at digits-2\); set it to none",
        ),
        (["arms=scratch,soup"], "arms: must hold tmu, of which sources are left out, but got scratch, soup"),
        (["observed=6"], "observed: must leave at least one of the 6 frames"),
    ],
)
def test_what_cannot_work_in_any_subset_is_said_before_any_work_starts(items, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        steps(changed(*items))


def test_one_source_cannot_be_left_out():
    with pytest.raises(ConfigError, match=r"^sources: must be at least two, or none can be left out, but got digits-1"):
        steps(SMOKE.only(("digits-1",)))


# --------------------------------------------------------------------------------------------- one whole run, as a user's own


@pytest.fixture(scope="module")
def lab(shell_in, tmp_path_factory):
    """A shell in a folder with nothing in it but a package that holds the pipeline's file, and the settings of two sources."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "__init__.py").touch()
    shutil.copy(pipelines.leave_one_source_out.__file__, folder / "mylab" / "which_source.py")
    chosen = ["-S", "seeds=2"]
    for number, source in enumerate(SMOKE.sources):  # networks that are there already: `test_zoo_to_target` trains some
        torch.manual_seed(number)
        save_predictor(Predictor(source.predictor, source.data.frame_shape()), folder / source.name)
        chosen += ["-S", f"sources.{number}.model={folder / source.name}"]
    return shell_in(folder, {}), ("mylab.which_source", "--preset", "smoke", *chosen, "--root", str(folder / "runs"))


@pytest.fixture(scope="module")
def finished(lab):
    shell, arguments = lab
    return shell.run("run", *arguments, timeout=290)


@pytest.fixture
def folders(finished, lab):
    """Folders of the finished steps, by name."""
    assert finished.returncode == 0, finished.stderr
    return {read_record(path).name: path for path in (Path(lab[1][-1]) / "steps").iterdir()}


def test_the_same_lines_run_in_a_package_of_ones_own(finished, folders):
    result = json.loads((folders["report"] / "result.json").read_text())
    assert [row[0] for row in result["rows"]][-3:] == ["tmu", "tmu.only.digits-1", "tmu.only.digits-2"]
    assert finished.stdout.splitlines()[0] == result["headline"]


def test_a_subset_has_a_gate_for_each_of_its_sources(folders):
    assert load_predictor(folders["target.tmu.seed0"] / "model").config.num_sources == 2
    assert load_predictor(folders["target.tmu.only.digits-2.seed0"] / "model").config.num_sources == 1
    assert set(read_record(folders["target.tmu.only.digits-2.seed0"]).inputs) == {
        "data",
        "rank",
        "sources/digits-2",
        "banks/digits-2",
    }


def test_the_report_says_which_source_helped_and_which_one_harmed(folders):
    result = json.loads((folders["report"] / "result.json").read_text())
    page = (folders["report"] / "report.html").read_text()
    assert 'id="source-matrix"' in page
    said = " ".join([result["headline"], *result["notes"], page])
    assert "transfer" in result["headline"].lower() or "source" in result["headline"].lower()
    for name in ("digits-1", "digits-2"):
        assert name in said


def test_mlflow_holds_the_run_with_the_numbers_of_every_subset(folders, lab, monkeypatch):
    from zoocast.tracking.backend import connect, locate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect(locate(Path(lab[1][-1])))
    experiment = client.get_experiment_by_name("mylab.which_source")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == len(folders) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {"strict_mse/tmu", "strict_mse/tmu.only.digits-1", "tmu_minus/tmu.only.digits-2"} <= set(parent.data.metrics)
    assert "| tmu.only.digits-1 " in parent.data.tags["mlflow.note.content"]
