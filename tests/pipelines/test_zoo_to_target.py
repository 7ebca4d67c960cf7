"""The main pipeline: what it refuses, what its steps' keys hang on, and one whole run with a lab's own model in the zoo."""

import contextlib
import dataclasses
import json
import re
import shlex
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines.zoo_to_target import ARMS as ZOO_ARMS
from pipelines.zoo_to_target import PRESETS, REFERENCES, ZooToTarget, steps
from zoocast.bank.recipe import read_bank
from zoocast.cli.imports import import_checkpoint
from zoocast.config import override, parse_overrides
from zoocast.dag import Resources, read_record
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, DataError, IntegrityError
from zoocast.experiment.sources import AdoptConfig
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig, blueprint, load_predictor, save_predictor
from zoocast.nn.sampling import ScheduledSampling
from zoocast.report.files import read_gates

GOLDENS = Path(__file__).parents[1] / "goldens"
SMOKE = PRESETS["smoke"]()
CANARY = "canary-5b1f"
SECRETS = {
    name: f"{CANARY}-of-{name}"
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAB_TOKEN")
}
"""What a user's shell may hold and nobody else may learn."""
ARMS = ("scratch", "finetune.digits-1", "finetune.digits-2", "l2-sp", "tmu")


def changed(*items, config=SMOKE):
    return override(config, parse_overrides(items))


def keys(config=SMOKE):
    return {step.name: step.key for step in steps(config)}


# ------------------------------------------------------------------------------------------------------------------- presets


def test_smoke_and_nested_build_their_steps():
    for preset, seeds in (("smoke", 2), ("nested", 3)):
        names = [step.name for step in steps(PRESETS[preset]())]
        trainings = {f"target.{arm}.seed{k}" for arm in ARMS for k in range(seeds)}
        evaluations = {f"evaluate.{arm}" for arm in ("copy-last", *ARMS)}
        sources = {f"{kind}.digits-{n}" for kind in ("data", "source", "bank") for n in (1, 2)}
        assert set(names) == {"data.target", "rank", "report", *sources, *trainings, *evaluations}
        assert names[-1] == "report"


def test_videos_are_of_another_film_in_each_source_and_the_target():
    videos = PRESETS["videos"]()
    films = [source.data.film for source in videos.sources] + [videos.target.data.film]
    assert sorted(films) == ["bigbuckbunny", "bikes", "carphone"]
    assert videos.startable == ("bikes", "carphone")


def test_the_default_job_has_sources_that_complement_each_other_and_continued_clips_for_what_is_compared():
    laptop = PRESETS["laptop"]()
    made = {step.name: step for step in steps(laptop)}
    arms = ("scratch", "finetune.moving", "finetune.turning", "l2-sp", "continued", "tmu")
    names = {f"target.{arm}.seed{k}" for arm in arms for k in range(5)} | {f"evaluate.{arm}" for arm in ("routed", *arms)}
    assert names <= made.keys()
    assert {source.data.motions for source in laptop.sources} == {("move",), ("turn",)}
    assert laptop.target.data.motions == ("move", "turn")
    continued = [name for name, step in made.items() if made["data.target.continued"] in step.inputs.values()]
    trained = [name for name in continued if name.startswith("target.")]
    assert sorted(trained) == sorted(f"target.{arm}.seed{k}" for arm in ("continued", "tmu") for k in range(5))
    # What is judged is judged on the same clips.
    assert {step.inputs["data"].name for name, step in made.items() if name.startswith("evaluate.")} == {"data.target"}


def images(path, count=60):
    """MNIST's digits as it comes: big-endian sizes, then bytes."""
    size = (28).to_bytes(4, "big")
    path.write_bytes(b"\0\0\x08\x03" + count.to_bytes(4, "big") + size + size + bytes(range(1, 1 + count)) * 784)
    return path


def test_paper_trains_as_the_releases_scripts_say():
    paper = PRESETS["paper"]()
    # From thuml/transferable-memory, script/convlstm_mnist.sh and script/tmu.sh.
    network = PredictorConfig(cell=ConvLSTM(kernel_size=5), hidden_channels=(64, 64, 64, 64), patch_size=4)
    sampling = ScheduledSampling(start=1.0, rate=2e-5, stop_iteration=50_000)
    for trained, rate in (*((source, 1e-4) for source in paper.sources), (paper.target, 3e-4)):
        training = trained.training
        assert trained.predictor == network
        assert (training.iterations, training.batch_size, training.learning_rate) == (80_000, 8, rate)
        assert (training.sampling, training.reverse_input, training.validate_every) == (sampling, True, 1_000)


def test_paper_asks_for_its_data(tmp_path):
    paper = PRESETS["paper"]()
    with pytest.raises(ConfigError, match=r"^sources.mnist-1.data.path: names no file; give"):
        steps(paper)
    mnist = images(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(ConfigError, match=r"^target.data.path: names no file; give"):
        steps(changed(f"sources.*.data.path={mnist}", config=paper))
    whole = changed(f"sources.*.data.path={mnist}", f"target.data.path={mnist}", config=paper)
    made = {step.name: step for step in steps(whole)}
    assert made["target.tmu.seed2"].resources == Resources(4, 1)
    assert made["source.mnist-2"].launches == (Resources(4, 1),)


def test_a_plan_looks_at_a_network_once_however_many_sources_have_it():
    source, made = SMOKE.sources[0], {}
    for count in (2, 128):
        sources = tuple(dataclasses.replace(source, name=f"s{k}") for k in range(count))
        blueprint.cache_clear()
        steps(dataclasses.replace(SMOKE, sources=sources, transfer=dataclasses.replace(SMOKE.transfer, warm_start="none")))
        made[count] = blueprint.cache_info().misses
    # The network that sources and target have, and the one with transfer units.
    assert made[128] == made[2] == 2


# ------------------------------------------------------------------------------------------------------------ what cannot work


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["sources.1.name=digits-1"], "sources: every source needs a name of its own, but got digits-1, digits-1"),
        (["sources.0.name=target"], "sources.target.name: target is what the target's own clips are called; use another name"),
        (["sources.0.name=Digits"], "sources.digits-1.name: a source's name is made of a-z"),
        (["sources.0.model=nowhere"], "sources.digits-1.model: /.*/nowhere holds no network"),
        (["seeds=0"], "seeds: must be at least 1 and at most 1000, but got 0"),
        (["seeds=1e6"], "seeds: must be at least 1 and at most 1000, but got 1000000"),
        (["seeds=1e308"], "seeds: must be a whole number of at most 18 digits, but got 1"),
        (
            ["target.training.batch_size=17"],
            "target.training.batch_size: must be at most the 16 clips of the training split, but got",
        ),
        (["sources.1.training.batch_size=33"], "sources.digits-2.training.batch_size: must be at most the 32 clips"),
        (["target.data=moving-mnist", "target.data.path=s3://b/x.npy"], "target.data.path: 's3://b/x.npy' is a URL"),
        (["num_strips=0"], "num_strips: must be at least 1, but got 0"),
        (["bank_workers.num_workers=0"], "bank_workers.num_workers: must be at least 1, but got 0"),
        (
            ["observed=0"],
            r"observed: must leave at least one of the 6 frames in the clips of sources.digits-1 .* got 0; use 1 to 5",
        ),
        (
            ["observed=6"],
            r"observed: must leave at least one of the 6 frames in the clips of sources.digits-1 .* got 6; use 1 to 5",
        ),
        (["observed=5", "target.data.length=5"], "observed: must leave at least one of the 5 frames in the clips of target "),
        (["target.training.reverse_input=true"], "bank.reversed: must be true when target.training.reverse_input flips time"),
        (["target.training.reverse_input=true", "bank.mode=online"], "bank.reversed: must be true"),
        (["bank.splits=test"], "bank.splits: must hold train, which the target distils from, but got .'test',"),
        (["bank.policy=shared"], "bank.policy: shared feeds the sources the target's own random mask"),
        (["bank.layers=first", "transfer.tmu.layers=all"], r"bank.layers: the target has transfer units in layers \[1\]"),
        (["bank.memory=m"], "bank.memory: source digits-1, layer 0 .convlstm. has no memory 'm'"),
        (["target.predictor.cell.kernel_size=5"], "transfer.warm_start: no source has the target's network"),
        (["target.predictor.patch_size=3"], "target.predictor.patch_size: must divide .* got 3 for frames of 16x16 pixels"),
        (["sources.1.predictor.patch_size=3"], "sources.digits-2.predictor.patch_size: must divide .* got 3"),
        (["target.predictor.cell.decouple=true"], "target.predictor.cell.decouple: unknown setting; stlstm has it"),
        (["target.predictor.num_sources=1"], "target.predictor.num_sources: unknown setting"),
        (["target.predictor.cell=convgru", "transfer.warm_start=none"], "target.predictor.tmu: needs a cell with a memory C"),
        (["target.training.batch_size=3", "target.workers.num_workers=2"], "target.training.batch_size: must be a multiple"),
        (["sources.*.workers.num_workers=3"], "sources.digits-1.training.batch_size: must be a multiple"),
        (["transfer.distillation_weight=-1"], "transfer.distillation_weight: must be at least 0, but got -1.0"),
        (["arms=tmu,finetunes"], "arms: must be some of scratch, finetune, .*, each once, but got 'finetunes'"),
        (
            ["arms=joint", "target.data.length=7"],
            "sources.digits-1.data: must have clips like the target's for the arm joint, 7 frames of 1x16x16, but got 6",
        ),
        (
            ["arms=routed", "observed=1"],
            "observed: must be at least 2 for the arm routed, which predicts observed frames, but got",
        ),
        (
            ["arms=scratch,ensemble", "sources.1.data.frame_size=24", "sources.1.predictor.cell.layer_norm=true"],
            "arms: must be others than ensemble, for which every source predicts the target's frames .1x16x16., as digits",
        ),
        (["tune=true", "tuning.rates=1,3"], "tuning.rates: must be 6, as many as weighted_rates x weights"),
        (["arms=tmu,tmu"], "arms: must be some of .*, each once, but got tmu, tmu"),
        (["arms=bss", "bss.k=5"], "bss.k: must be at most training.batch_size, which is 4, but got 5"),
        (["arms=delta", "bank.memory=m"], "bank.memory: source digits-1, layer 0 .convlstm. has no memory 'm'"),
        (["arms=freeze", "freeze.layers=3"], "freeze.layers: must be at most the 2 layers of the target, but got 3"),
        (["arms=soup", "target.predictor.cell.kernel_size=5"], "arms: no source has the target's network, so there is no soup"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_said_before_any_work_starts(items, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        steps(changed(*items))


def test_a_zoo_needs_a_source():
    with pytest.raises(ConfigError, match=r"^sources: the zoo needs at least one source, but has none"):
        dataclasses.replace(SMOKE, sources=())
    with pytest.raises(ConfigError, match=r"^sources: the zoo needs at least one source"):
        ZooToTarget()


def test_the_target_gets_its_transfer_units_from_one_place():
    config = dataclasses.replace(SMOKE.target.predictor, tmu=SMOKE.transfer.tmu, num_sources=2)
    target = dataclasses.replace(SMOKE.target, predictor=config)
    with pytest.raises(ConfigError, match=r"^target.predictor.tmu: must be none, .* set transfer.tmu instead"):
        steps(dataclasses.replace(SMOKE, target=target))


def test_a_layer_norm_that_takes_the_place_of_another_leaves_no_warm_start():
    normed = ("sources.*.predictor.cell.layer_norm=true", "target.predictor.cell.layer_norm=true", "transfer.tmu.gate_norm=true")
    with pytest.raises(ConfigError, match=r"^transfer.warm_start: .*gate_norm .* to start from digits-1, digits-2; set"):
        steps(changed(*normed))
    assert "target.tmu.seed0" in keys(changed(*normed, "transfer.warm_start=none"))


def test_frames_that_no_metric_can_judge_are_refused(tmp_path):
    """SSIM looks at windows of 7 x 7 pixels."""
    np.save(tmp_path / "tiny.npy", np.zeros((6, 60, 4, 4), np.uint8))
    tiny = changed("target.data=moving-mnist", "target.data.frame_size=4", "target.data.length=6", "target.data.train=8")
    few = ("target.data.validation=4", "target.data.test=4", f"target.data.path={tmp_path / 'tiny.npy'}")
    with pytest.raises(ConfigError, match=r"^target.data: SSIM needs frames of at least 7x7 pixels, but got 1x4x4"):
        steps(changed(*few, config=tiny))


# ------------------------------------------------------------------------------------------------------------- steps and keys


def test_equal_data_are_built_once():
    same = ("sources.1.data.num_digits=1", "sources.1.data.seed=1")
    assert {n for n in keys(changed(*same)) if n.startswith("data.")} == {"data.digits-1", "data.target"}
    made = {step.name: step for step in steps(changed(*same))}
    # Their networks and trainings are equal as well, so the second source is the first one under another name.
    assert "source.digits-2" not in made
    assert made["rank"].inputs["sources/digits-2"] is made["rank"].inputs["sources/digits-1"] is made["source.digits-1"]
    other = {step.name: step for step in steps(changed(*same, "sources.1.training.seed=5"))}
    assert other["source.digits-2"].inputs["data"] is other["source.digits-1"].inputs["data"]


def test_data_are_equal_when_their_files_are(tmp_path):
    """A path is no identity: two files may differ under equal settings, and one file may lie in two places."""
    for name, value in (("a", 10), ("copy", 10), ("b", 20)):
        np.save(tmp_path / f"{name}.npy", np.full((6, 60, 16, 16), value, np.uint8))
    mnist = ("data=moving-mnist", "data.frame_size=16", "data.length=6", "data.train=8", "data.validation=4", "data.test=4")
    switched = [f"{owner}.{item}" for owner in ("sources.*", "target") for item in mnist]

    def built(first, second, target):
        files = [
            f"{o}.data.path={tmp_path / f}.npy" for o, f in (("sources.0", first), ("sources.1", second), ("target", target))
        ]
        return {name for name in keys(changed(*files, config=changed(*switched))) if name.startswith("data.")}

    assert built("a", "copy", "a") == {"data.target"}
    assert built("a", "b", "b") == {"data.digits-1", "data.target"}
    (tmp_path / "b.npy").unlink()
    with pytest.raises(DataError, match=r"b.npy"):
        built("a", "b", "a")


def test_where_work_runs_changes_no_key():
    elsewhere = changed(
        "sources.*.workers.num_workers=2",
        "sources.*.workers.cpus_per_worker=3",
        "sources.*.workers.max_failures=7",
        "target.workers.num_workers=2",
        "target.workers.gpus_per_worker=1",
        "bank_workers.num_workers=5",
    )
    assert keys(elsewhere) == keys()
    held = {step.name: step for step in steps(elsewhere)}
    assert (held["source.digits-1"].resources, held["source.digits-1"].launches) == (Resources(0), (Resources(3),) * 2)
    assert (held["target.tmu.seed0"].resources, held["target.tmu.seed0"].launches) == (Resources(0), (Resources(1, 1),) * 2)


SEEDS = ("seed0", "seed1")
TRAINED = {f"target.{arm}.{seed}" for arm in ARMS for seed in SEEDS} | {f"evaluate.{arm}" for arm in ARMS}


def of(*arms):
    return {name for name in TRAINED if any(name.startswith((f"target.{arm}.", f"evaluate.{arm}")) for arm in arms)}


@pytest.mark.parametrize(
    ("item", "touched"),
    [
        (
            "sources.digits-1.training.learning_rate=0.5",
            {"source.digits-1", "rank", "bank.digits-1", "report"} | of("l2-sp", "tmu", "finetune.digits-1"),
        ),
        ("target.training.learning_rate=0.5", {"report"} | TRAINED),
        ("l2sp.weight=0.5", {"report"} | of("l2-sp")),
        # Many transfers are tried against the same banks.
        ("transfer.tmu.combine=residual", {"report"} | of("tmu")),
        ("transfer.distillation_weight=0.5", {"report"} | of("tmu")),
        ("bank.dtype=float32", {"bank.digits-1", "bank.digits-2", "report"} | of("tmu")),
        ("seeds=3", {"report", *(f"evaluate.{arm}" for arm in ARMS)}),
    ],
)
def test_a_setting_changes_the_keys_of_what_hangs_on_it_and_no_others(item, touched):
    before, after = keys(), keys(changed(item))
    assert {name for name in before if before[name] != after[name]} == touched


def test_a_bank_that_nothing_reads_is_not_built():
    for item in ("bank.mode=online", "transfer.distillation_weight=0"):
        made = {step.name: step for step in steps(changed(item))}
        assert not any(name.startswith("bank.") for name in made)
        assert set(made["target.tmu.seed0"].inputs) == {"data", "rank", "sources/digits-1", "sources/digits-2"}


def test_arms_follow_from_which_sources_fit():
    other = steps(changed("sources.0.predictor.hidden_channels=4,4"))
    assert [s.name for s in other if s.name.startswith("target.finetune")] == [f"target.finetune.digits-2.{s}" for s in SEEDS]
    alone = {s.name for s in steps(changed("target.predictor.cell.kernel_size=5", "transfer.warm_start=none"))}
    assert {n for n in alone if n.startswith("target.")} == {f"target.{arm}.{s}" for arm in ("scratch", "tmu") for s in SEEDS}
    assert other[-1].config.notes == ("Not finetuned from digits-1: another network than the target's.",)


def test_further_arms_leave_those_of_before_as_they_are():
    # But for frames, whose bank holds more, and is the bank of all. The arm continued is there where continuation.frames is set.
    before, after = keys(changed("bank.frames=true")), keys(changed("arms=all"))
    assert {name for name in before if after[name] != before[name]} == {"report"}
    trained = {name.removesuffix(".seed0") for name in after.keys() - before.keys() if name.endswith(".seed0")}
    assert trained == {f"target.{arm}" for arm in {*ZOO_ARMS} - {"scratch", "finetune", "l2-sp", "tmu", "continued", *REFERENCES}}
    assert SMOKE.arms == ("scratch", "finetune", "l2-sp", "tmu")


def test_references_need_no_training_and_all_sources():
    made = {step.name: step for step in steps(changed("arms=routed,tmu,finetune,joint,ensemble"))}
    arms = ("copy-last", "tmu", "finetune.digits-1", "finetune.digits-2", "joint", "ensemble", "routed")
    assert [*made["report"].inputs] == [f"arms/{arm}" for arm in arms]
    for arm in ("ensemble", "routed"):
        assert [*made[f"evaluate.{arm}"].inputs] == ["data", "sources/digits-1", "sources/digits-2"]
    clips = {name: step.name for name, step in made["target.joint.seed0"].inputs.items() if "data" in step.name}
    assert clips == {"data": "data.target", "clips/digits-1": "data.digits-1", "clips/digits-2": "data.digits-2"}
    assert made["report"].config.comparison.rival == ("finetune.digits-1", "finetune.digits-2")
    assert made["report"].config.notes == (
        "Upper references without training, with all 2 sources kept to predict with: routed and ensemble.",
        "Upper reference that is trained on the sources' clips as well, which transfer does without: joint.",
    )


def test_joint_training_is_refused_where_a_sources_clips_are_not_there(tmp_path):
    save_predictor(Predictor(SMOKE.target.predictor, SMOKE.target.data.frame_shape()), tmp_path)
    with pytest.raises(
        ConfigError, match=r"^arms: must be others than joint, for the clips that digits-1 was trained on are not"
    ):
        steps(changed(f"sources.0.model={tmp_path}", "arms=finetune,joint"))


def test_every_trained_arm_is_tuned_by_as_many_trainings():
    tuned = changed("tune=true")
    made = {step.name: step for step in steps(tuned)}
    assert {arm: len(made[f"choose.{arm}"].inputs) for arm in ARMS} == dict.fromkeys(ARMS, 6)
    assert all("choose" in made[f"target.{arm}.{seed}"].inputs for arm in ARMS for seed in SEEDS)
    # The grid of a run that does not tune is nothing to its trainings.
    before, after = keys(), keys(changed("tuning.seeds=2"))
    assert {name for name in before if before[name] != after[name]} == {"report"}


def test_an_experiment_without_tmu_or_finetuning_compares_what_there_is():
    def headline(arms):
        return steps(changed(f"arms={arms}"))[-1].config.comparison

    assert headline("soup,scratch") is None
    assert headline("finetune,soup") is None
    assert headline("tmu,scratch").rival == ("scratch",)
    assert not any(name.startswith("bank.") for name in keys(changed("arms=tmu-no-loss,scratch")))


# ------------------------------------------------------------------------------------------------------- one whole run, for real


@pytest.fixture(scope="module")
def imported(shell, tmp_path_factory):
    """A released ConvLSTM, imported; the settings that the command then says to type."""
    models = tmp_path_factory.mktemp("models")
    done = shell.run("import", str(GOLDENS / "convlstm.ckpt"), "--as", "lab", "--image-size", "16", "-o", str(models))
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1].partition(": ")[2])
    assert words[:4] == ["pipelines", "run", "zoo-to-target", "-S"]
    return words[4:]


RUN = ("scratch", "finetune", "l2-sp", "continued", "tmu", "routed")
LEARNT = ("scratch", "finetune.lab", "l2-sp", "continued", "tmu")


@pytest.fixture(scope="module")
def arguments(imported, tmp_path_factory):
    """The smallest run with a network from elsewhere, which the target starts from, and a source of another kind.

    TMU is told to do what it does in the default job: two kinds of clips, relevance, fitted distillers, and continued clips.
    """
    gru = ("sources.1.name=gru", "sources.1.predictor.cell=convgru", "sources.1.predictor.hidden_channels=6,6")
    kinds = ("target.data.num_digits=1", "target.data.motions=move,turn")
    tmu = (
        "transfer.relevance=best",
        "transfer.tmu.distiller_init=fitted",
        "transfer.tmu.combine=residual",
        "continuation.frames=2",
    )
    chosen = (*imported, *gru, *kinds, *tmu, "target.predictor.patch_size=2", f"arms={','.join(RUN)}")
    return "run", "zoo-to-target", "--preset", "smoke", "-S", *chosen, "--root", str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def ray_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        yield Path(short)


@pytest.fixture(scope="module")
def ray_logs(tmp_path_factory):
    """Where Ray's logs are copied to while they are there: a session is removed when its run has ended."""
    return tmp_path_factory.mktemp("ray")


@contextlib.contextmanager
def logs_copied(ray_folder, ray_logs):
    ended = threading.Event()

    def copy():
        while not ended.wait(0.3):
            for logs in ray_folder.glob("*/ray/session_2*/logs"):
                with contextlib.suppress(OSError, shutil.Error):  # it is being removed
                    shutil.copytree(logs, ray_logs, dirs_exist_ok=True)

    thread = threading.Thread(target=copy)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture(scope="module")
def finished(shell, arguments, ray_folder, ray_logs):
    with logs_copied(ray_folder, ray_logs):
        return type(shell)(shell.folder, SECRETS | {"RAY_TMPDIR": str(ray_folder)}).run(*arguments, timeout=280)


@pytest.fixture
def folders(finished, arguments):
    """Folders of the finished steps, by name."""
    assert finished.returncode == 0, finished.stderr
    return {read_record(path).name: path for path in (Path(arguments[-1]) / "steps").iterdir()}


def test_the_smoke_preset_runs_to_its_report(finished, folders):
    expected = {
        *("data.target", "data.gru", "source.lab", "source.gru", "rank", "report", "evaluate.copy-last", "evaluate.routed"),
        *("data.target.continued", "bank.lab.continued", "bank.gru.continued"),
        *(f"target.{arm}.{seed}" for arm in LEARNT for seed in SEEDS),
        *(f"evaluate.{arm}" for arm in LEARNT),
    }
    assert set(folders) == expected
    result = json.loads((folders["report"] / "result.json").read_text())
    assert [row[0] for row in result["rows"]] == ["copy-last", *LEARNT, "routed"]
    assert "Not finetuned from gru: another network than the target's." in result["notes"]
    table = (folders["report"] / "table.md").read_text()
    assert all(f"| {arm} " in table for arm in ("copy-last", *LEARNT, "routed"))
    page = (folders["report"] / "report.html").read_text()
    assert result["headline"].partition(". ")[0] in page
    assert finished.stdout.splitlines()[0] == result["headline"]
    assert str(folders["report"] / "report.html") in finished.stdout


def test_the_target_distils_from_the_adopted_network_and_from_one_unlike_itself(folders):
    adopted = load_predictor(folders["source.lab"] / "model")
    assert (adopted.config.hidden_channels, adopted.config.patch_size) == ((8, 8), 2)
    assert read_record(folders["rank"]).result["best"] == "lab"
    target = load_predictor(folders["target.tmu.seed0"] / "model")
    assert target.config.num_sources == 2
    # Each source with its own memory, channels and maps, of two layers at five steps: 16 / 2 and 16 / 4 pixels.
    recipes = {name: read_bank(folders[f"bank.{name}.continued"] / "bank", name)[1] for name in ("lab", "gru")}
    stored = {name: [(ref.memory, (recipe.length - 1, *ref.shape)) for ref in recipe.refs] for name, recipe in recipes.items()}
    assert stored == {"lab": [("c", (5, 8, 8, 8))] * 2, "gru": [("h", (5, 6, 4, 4))] * 2}
    gates = read_gates(folders["evaluate.tmu"])
    assert gates.sources == ("lab", "gru")
    assert gates.values.shape == (2, 5, 8, 8)


def test_the_report_says_whom_clips_listened_to_and_how_arms_fare_on_each_kind(folders):
    page, figures = (folders["report"] / "report.html").read_text(), folders["report"] / "figures"
    assert (figures / "listening-tmu.png").is_file()
    assert all(f"<td>{kind}" in page or f">{kind}<" in page for kind in ("move", "turn"))
    # Of 16 training clips each has one window that reaches two frames beyond its end.
    assert len(ClipStore.open(folders["data.target.continued"]).split("train")) == 32
    with np.load(folders["target.tmu.seed0"] / "relevance.npz") as relevance:
        assert relevance["relevance"].shape == (32, 2)
        assert set(relevance["relevance"].ravel().tolist()) <= {0.0, 2.0}


def test_a_second_run_does_nothing(finished, shell, arguments):
    again = shell.run(*arguments)
    assert (again.returncode, again.stdout) == (0, finished.stdout)
    assert re.fullmatch(r"nothing to do: all 26 steps were done before\n", again.stderr)


def test_no_process_used_more_threads_than_it_was_given(folders):
    trained = 0
    for path in folders.values():
        record = read_record(path)
        if "threads" in record.result:
            trained += 1
            given = max([record.resources["num_cpus"], *(launched["num_cpus"] for launched in record.resources["launches"])])
            assert record.result["threads"] <= given, record.name
    assert trained == 11  # one source and five arms with two seeds


def test_mlflow_holds_the_run_its_steps_and_their_models(folders, arguments, monkeypatch):
    from zoocast.tracking.backend import connect, locate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect(locate(Path(arguments[-1])))
    experiment = client.get_experiment_by_name("zoo-to-target")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {r.info.run_name: r for r in runs if r is not parent}
    assert set(children) == set(folders)
    assert len(runs) == len(folders) + 1
    assert {r.data.tags["mlflow.parentRunId"] for r in children.values()} == {parent.info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert parent.data.metrics["strict_mse/tmu"] > 0
    of_seeds = [children[f"target.tmu.seed{seed}"].data.metrics["test/strict/mse"] for seed in (0, 1)]
    assert sum(of_seeds) / 2 == pytest.approx(parent.data.metrics["strict_mse/tmu"])
    assert "| tmu " in parent.data.tags["mlflow.note.content"]
    for model in ("source-lab", "source-gru", "target-tmu"):
        assert client.get_model_version_by_alias(model, "ready").status == "READY"
    arms = {f"target-{arm.replace('.', '-')}" for arm in LEARNT}
    assert arms <= {model.name for model in client.search_registered_models()}


# ------------------------------------------------------------------------------------------------------ a network from elsewhere


def test_an_adopted_network_needs_no_clips_and_ignores_its_training(imported):
    config = changed(*imported, "target.predictor.patch_size=2")
    made = {step.name: step for step in steps(config)}
    assert isinstance(made["source.lab"].config, AdoptConfig)
    assert made["source.lab"].inputs == {}
    assert "data.lab" not in made
    assert config.startable == ("lab",)
    retrained = changed("sources.lab.training.iterations=1", "sources.lab.data.length=3", config=config)
    assert {n: k for n, k in keys(retrained).items() if n != "report"} == {n: k for n, k in keys(config).items() if n != "report"}


def test_another_network_or_a_damaged_one_is_noticed(imported, tmp_path):
    folder = Path(imported[1].partition("=")[2])
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    here = changed(*imported, "transfer.warm_start=none")
    assert keys(changed(f"sources.lab.model={moved}", config=here)) == keys(here)
    import_checkpoint(GOLDENS / "tmu_source2.ckpt", "other", tmp_path, "16", channels=1, patch_size=None)
    assert keys(changed(f"sources.lab.model={tmp_path / 'other'}", config=here))["source.lab"] != keys(here)["source.lab"]
    for name, message in (
        ("predictor.safetensors", "its checksum is not the one"),
        ("predictor.json", "it is not what was written"),
    ):
        whole = (moved / name).read_bytes()
        (moved / name).write_bytes(whole.replace(b"8", b"9"))
        with pytest.raises(IntegrityError, match=message):
            steps(changed(f"sources.lab.model={moved}", config=here))
        (moved / name).write_bytes(whole)


# --------------------------------------------------------------------------------------------------------- what others may see


def files_below(*folders):
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def test_what_a_run_leaves_is_its_owners_alone(finished, arguments, ray_folder):
    assert finished.returncode == 0
    root = Path(arguments[-1])
    found = [root / "mlflow.db", *(root / "runs").rglob("*"), *(root / "steps").rglob("*"), *root.rglob("*")]
    assert len(found) > 200
    assert [path for path in found if not path.is_symlink() and path.stat().st_mode & 0o077] == []
    # Ray lets everyone write into its own folders, so they lie in one that only their owner can enter.
    (private,) = ray_folder.iterdir()
    assert private.stat().st_mode & 0o077 == 0
    assert list(private.glob("ray/session_2*")) == []


def test_no_secret_of_the_environment_is_written_anywhere(finished, arguments, ray_folder, ray_logs):
    assert CANARY not in finished.stdout + finished.stderr
    written = files_below(Path(arguments[-1]), ray_folder, ray_logs)
    names = {path.name for path in written}
    assert {"run.json", "done.json", "mlflow.db", "raylet.out", "gcs_server.out", "journal.jsonl", "report.html"} <= names
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def test_no_password_of_a_server_is_written_anywhere(finished, shell, arguments, ray_folder, ray_logs):
    assert finished.returncode == 0
    refused = shell.run(*arguments, "--tracking-uri", f"http://me:{CANARY}@127.0.0.1:9")
    assert refused.returncode == 2
    # A server that is not there, so that there is much to say about it.
    user = {"MLFLOW_TRACKING_USERNAME": "me", "RAY_TMPDIR": str(ray_folder)}
    with logs_copied(ray_folder, ray_logs):
        done = type(shell)(shell.folder, SECRETS | user).run(*arguments, "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 0
    assert "MLflow does not know all of it yet" in done.stderr
    status = shell.run("status", "zoo-to-target", "--json", *arguments[-2:])
    assert "http://127.0.0.1:9" in status.stdout
    for said in (refused, done, status):
        assert CANARY not in said.stdout + said.stderr
    assert [path for path in files_below(Path(arguments[-1]), ray_folder, ray_logs) if CANARY.encode() in path.read_bytes()] == []
