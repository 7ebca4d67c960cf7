"""SeeMore's pipeline: what it refuses, what its steps' keys hang on, and one whole study with its trials in MLflow."""

import itertools
import json
import re
import signal
from pathlib import Path

import pytest

from pipelines.seemore_search import PRESETS, steps
from zoocast.config import override, parse_overrides
from zoocast.dag import Resources, StepContext, read_record
from zoocast.errors import ConfigError, StepFailed
from zoocast.experiment.searching import train_found
from zoocast.nn.cells import STLSTM
from zoocast.nn.predictor import PredictorConfig, load_predictor
from zoocast.nn.sampling import ReverseScheduledSampling
from zoocast.search import read_study
from zoocast.seemore.adapter import AdapterConfig
from zoocast.tracking.entries import Params
from zoocast.tracking.journal import read_entries

SMOKE = PRESETS["smoke"]()


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def keys(config=SMOKE):
    return {step.name: step.key for step in steps(config)}


@pytest.mark.parametrize(("preset", "seeds", "best"), [("smoke", 2, 2), ("laptop", 3, 3)])
def test_a_preset_builds_its_steps(preset, seeds, best):
    arms = {"adam", "adam.found-rate", "paper", *(f"searched.{k + 1}" for k in range(best))}
    trained = {f"target.{arm}.seed{k}" for arm in arms for k in range(seeds)}
    evaluated = {f"evaluate.{arm}" for arm in ("copy-last", "stage1", *arms)}
    assert set(keys(PRESETS[preset]())) == {"data.target", "target.stage1.seed0", "search", "report", *trained, *evaluated}


def test_paper_trains_as_the_releases_scripts_say():
    paper = PRESETS["paper"]()
    # From DIG-Beihang/SeeMore, mnist_script/train_stage_1.sh and train_stage_2.sh.
    stages = (
        (paper.target.training, 80_000, 2_500, (35_000, 70_000, 2_500)),
        (paper.training(0), 10_000, 200, (5_000, 10_000, 2_500)),
    )
    for training, iterations, test_interval, (start, stop, decay) in stages:
        assert (training.iterations, training.validate_every) == (iterations, test_interval)
        assert training.sampling == ReverseScheduledSampling(start_iteration=start, stop_iteration=stop, decay=decay)
        assert (training.reverse_input, training.batch_size, training.learning_rate, training.decouple_weight) == (
            True,
            8,
            1e-4,
            0.1,
        )
    network = PredictorConfig(cell=STLSTM(kernel_size=5, decouple=True), hidden_channels=(128,) * 4, patch_size=4)
    assert (paper.target.predictor, paper.observed, paper.target.data.length) == (network, 10, 20)
    assert (paper.stage2.curriculum, paper.adapter) == ("restart", AdapterConfig(initial_rate=1e-4, meta_learning_rate=1e-7))


def test_stage_2_has_the_schedule_of_stage_1_unless_it_has_its_own():
    base = PRESETS["smoke"]()
    assert base.training(0).sampling == base.target.training.sampling
    own = changed("stage2.sampling=reverse-scheduled", "stage2.sampling.start_iteration=5000").training(0)
    assert own.sampling == ReverseScheduledSampling(start_iteration=5000)


def test_paper_asks_for_its_data():
    with pytest.raises(ConfigError, match=r"^target.data.path: names no file; give"):
        steps(PRESETS["paper"]())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["num_best=6"], "num_best: must be at most search.num_trials=5, but got 6"),
        (["seeds=0"], "seeds: must be at least 1 and at most 1000, but got 0"),
        (["stage2.validate_every=3"], "stage2.validate_every: must divide adapter.cycle, .* got 3 for cycles of 4"),
        (["stage2.learning_rate=0"], "stage2.learning_rate: must be above 0, but got 0.0"),
        (["search.num_trials=0"], "search.num_trials: must be at least 1 and at most 100000, but got 0"),
        (
            ["space=nothing"],
            "space: there is no search space 'nothing'; known: seemore-adapter, target; your own is written with its dots",
        ),
        (["observed=6"], "observed: must leave at least one of the 6 frames in the clips of target "),
        (
            ["target.predictor.cell.decouple=true", "target.predictor.cell=convlstm"],
            "target.predictor.cell.decouple: unknown setting; stlstm has it",
        ),
        (["adapter.rate_iterations=4"], "adapter.rate_iterations: 0 <= rate_iterations < cycle must hold"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_said_before_any_work_starts(items, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        steps(changed(*items))


FOUND = {f"target.{arm}.seed{k}" for arm in ("adam.found-rate", "searched.1", "searched.2") for k in (0, 1)}
FOUND |= {"search", "report", "evaluate.adam.found-rate", "evaluate.searched.1", "evaluate.searched.2"}


@pytest.mark.parametrize(
    ("item", "touched"),
    [
        ("search.num_trials=7", FOUND),
        ("search.cpus_per_trial=2", set()),
        ("search.max_concurrent=1", set()),
        ("target.workers.cpus_per_worker=2", set()),
        (
            "stage2.learning_rate=3e-4",
            set(keys()) - {"data.target", "target.stage1.seed0", "evaluate.stage1", "evaluate.copy-last"},
        ),
    ],
)
def test_a_setting_changes_the_keys_of_what_hangs_on_it_and_no_others(item, touched):
    before, after = keys(), keys(changed(item))
    assert {name for name in after if after[name] != before[name]} == touched


def test_a_trial_holds_what_the_search_was_given():
    made = {step.name: step for step in steps(changed("search.cpus_per_trial=2", "search.gpus_per_trial=1"))}
    assert (made["search"].resources, made["search"].launches) == (Resources(0), (Resources(2, 1),))


# --------------------------------------------------------------------------------------------------------------- one whole study


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    chosen = ("seeds=1", "num_best=1", "search.num_trials=4")
    return "run", "seemore-search", "--preset", "smoke", "-S", *chosen, "--root", str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def finished(shell, arguments):
    return shell.run(*arguments, timeout=280)


@pytest.fixture
def folders(finished, arguments):
    """Folders of the finished steps, by name."""
    assert finished.returncode == 0, finished.stderr
    return {read_record(path).name: path for path in (Path(arguments[-1]) / "steps").iterdir()}


def test_the_best_settings_are_trained_again(folders):
    study = read_study(folders["search"])
    assert len(study.trials) == 4
    # The paper's values come first, in cycles as short as the preset's: a quarter of 4 iterations moves rates.
    assert study.trials[0].params["adapter.initial_rate"] == 1e-4
    assert study.trials[0].params["adapter.rate_iterations"] == 1
    best = study.best()[0]
    params = {}
    for entry in read_entries(folders["target.searched.1.seed0"] / "journal.jsonl", Params):
        params |= entry.values
    assert {name: params[name] for name in best.params} == {name: str(value) for name, value in best.params.items()}
    # Same start, seed and settings: the training of the best trial is repeated to the last digit, if it ran to its end.
    again = read_record(folders["target.searched.1.seed0"]).result["val_mse"]
    assert best.state == "done"
    assert again == best.best_error


def test_plain_adam_is_given_the_rate_that_was_found(folders):
    best = read_study(folders["search"]).best()[0]
    entries = read_entries(folders["target.adam.found-rate.seed0"] / "journal.jsonl", Params)
    logged = {name: value for entry in entries for name, value in entry.values.items()}
    assert logged["adapter"] == "none"
    assert logged["search.trial"] == best.id
    assert float(logged["learning_rate"]) == best.params["adapter.initial_rate"]


def test_what_is_exported_is_the_forward_network_alone(folders):
    plain = load_predictor(folders["target.stage1.seed0"] / "model").state_dict()
    adapted = load_predictor(folders["target.searched.1.seed0"] / "model").state_dict()
    assert {name: value.shape for name, value in adapted.items()} == {name: value.shape for name, value in plain.items()}


def test_a_second_run_does_nothing(finished, shell, arguments):
    again = shell.run(*arguments)
    assert (again.returncode, again.stdout) == (0, finished.stdout)
    assert re.fullmatch(r"nothing to do: all \d+ steps were done before\n", again.stderr)


def test_mlflow_holds_one_run_per_trial_below_the_search(folders, arguments, monkeypatch):
    from zoocast.tracking.backend import connect, locate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect(locate(Path(arguments[-1])))
    experiment = client.get_experiment_by_name("seemore-search")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    trials = {name: run for name, run in by_name.items() if name.startswith("trial-")}
    assert len(runs) == len(by_name) == len(folders) + 4 + 1  # the steps, the trials, and the run itself
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {by_name["search"].info.run_id}
    for trial in read_study(folders["search"]).trials:
        said = trials[trial.id].data
        assert said.params["adapter.initial_rate"] == str(trial.params["adapter.initial_rate"])
        assert said.metrics["trial/best_error"] == trial.best_error
        assert {name for name in said.metrics if name.startswith("rate/")} > {"rate/forward.cells.0", "rate/reverse.head"}


@pytest.mark.usefixtures("finished")
def test_ui_links_to_the_trials(shell, arguments):
    with shell.start("ui", "--port", "0", "--root", arguments[-1]) as process:
        lines = list(itertools.islice(process.stdout, 3))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert re.match(r"search      http://127.0.0.1:\d+/#/experiments/\d+/runs\?.*compareRunsMode=CHART", lines[2])
    assert process.returncode == 0


def test_the_report_says_what_the_search_gained(folders):
    result = json.loads((folders["report"] / "result.json").read_text())
    assert [row[0] for row in result["rows"]] == ["copy-last", "stage1", "adam", "adam.found-rate", "paper", "searched.1"]
    assert "searched meta-adapter" in result["headline"]
    page = (folders["report"] / "report.html").read_text()
    assert all(section in page for section in ('id="search"', 'id="rates"'))


def test_a_study_without_enough_good_trials_says_so(folders, tmp_path):
    trained = steps(changed("num_best=5"))
    fifth = next(step for step in trained if step.name == "target.searched.5.seed0")
    context = StepContext.standalone(tmp_path / "step", fifth.config, {"search": folders["search"]})
    with pytest.raises(StepFailed, match=r"needs the study's trial in place 5, but only \d did not fail; search longer with"):
        train_found(context)
