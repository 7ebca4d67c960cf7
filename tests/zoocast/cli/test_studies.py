import dataclasses
import json

import pytest

from zoocast.cli.catalogue import configure, grid, labels, load, preset_config, summaries
from zoocast.cli.studies import Study, as_toml, like_run, read_study
from zoocast.config import dump, override, overrides_between, parse_overrides
from zoocast.errors import ConfigError, DataError

ZOO = "zoo-to-target"


@pytest.fixture(scope="module")
def zoo():
    return load(ZOO)


def written(tmp_path, text):
    (tmp_path / "study.toml").write_text(text)
    return read_study(tmp_path / "study.toml")


@pytest.mark.parametrize("name", sorted(summaries()))
def test_what_show_prints_is_what_a_file_may_hold(tmp_path, name):
    pipeline = load(name)
    for preset in pipeline.presets:
        config = preset_config(pipeline, preset)
        configured = dataclasses.replace(_EMPTY, pipeline=pipeline, preset=preset, preset_config=config, config=config)
        study = written(tmp_path, as_toml(configured))
        assert (study.pipeline, study.preset) == (name, preset)
        assert override(config, study.items) == config
        # On any other preset, the file alone says what is done.
        other = preset_config(pipeline, next(iter(pipeline.presets)))
        assert override(other, study.items) == config


_EMPTY = configure(load(ZOO), "smoke")


def test_a_file_names_members_groups_kinds_and_lists(tmp_path, zoo):
    text = """
        seeds = 5
        sources.digits-1.training.iterations = 7
        [target.data]
        kind = "digits"
        train = [16, 32]
        [target.predictor]
        hidden_channels = [[8, 8], [4, 4]]
        [target.training]
        gradient_clip = "none"
        reverse_input = false
        """
    study = written(tmp_path, text)
    assert (study.pipeline, study.preset) == (None, None)
    assert dict(study.items) == {
        "seeds": "5",
        "sources.digits-1.training.iterations": "7",
        "target.data": "digits",
        "target.data.train": "16,32",
        "target.predictor.hidden_channels": "8,8;4,4",
        "target.training.gradient_clip": "none",
        "target.training.reverse_input": "false",
    }
    runs = [override(_EMPTY.preset_config, parse_overrides(one)) for one in grid(zoo, "smoke", study.overridden(["seeds=2"]))]
    assert [(c.target.data.train, c.target.predictor.hidden_channels) for c in runs] == [
        (16, (8, 8)),
        (16, (4, 4)),
        (32, (8, 8)),
        (32, (4, 4)),
    ]
    assert {c.seeds for c in runs} == {2}
    assert [source.name for source in runs[0].sources] == ["digits-1", "digits-2"]


def test_an_override_of_a_kind_or_a_group_replaces_what_the_file_says_below_it(tmp_path):
    study = written(tmp_path, as_toml(_EMPTY))
    changed = override(_EMPTY.preset_config, parse_overrides(study.overridden(["target.data=moving-mnist", "sources=digits-2"])))
    assert (changed.target.data.kind, [source.name for source in changed.sources]) == ("moving-mnist", ["digits-2"])


@pytest.mark.parametrize(
    ("old", "new", "field", "place"),
    [
        ("seeds = 2", "seds = 2", "seds", "seds"),
        ("validate_every = 5", "validate_evry = 5", "sources.digits-1.training.validate_evry", "validate_evry"),
        ('name = "digits-2"', 'name = "Digits"', "sources.Digits.name", '"Digits"'),
        ("train = 16", "train = 0", "target.data.train", "train = 0"),
        ("[target.training]", "[target.trainig]", "target.trainig", "[target.trainig]"),
        ('kind = "convlstm"', 'kind = "lstm"', "sources.digits-1.predictor.cell", 'kind = "lstm"'),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path, zoo, old, new, field, place):
    text = as_toml(_EMPTY).replace(old, new, 1)
    study = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        configure(zoo, "smoke", study.overridden([]))
    line = next(number for number, line in enumerate(text.splitlines(), 1) if place in line)
    located = study.located(raised.value)
    assert located.field == field
    # The header of a table stands for its kind.
    assert f"study.toml, line {line})" in str(located) or f"study.toml, line {line - 1})" in str(located)


@pytest.mark.parametrize("text", ["a = [", "a = 1\na = 2", "\x00", "pipeline = 3", "a = " + "[" * 5000])
def test_what_is_no_file_of_settings_is_named(tmp_path, text):
    with pytest.raises((DataError, ConfigError), match=r"study\.toml"):
        written(tmp_path, text)
    with pytest.raises(DataError, match=r"gone\.toml cannot be read as settings: No such file .* --toml` prints a file"):
        read_study(tmp_path / "gone.toml")


def test_a_run_like_another_has_its_settings_from_its_record():
    config = override(_EMPTY.preset_config, {"seeds": "7", "target.training.learning_rate": "0.1"})
    study = like_run(ZOO, "smoke", json.loads(json.dumps(dump(config))))
    assert study == Study(ZOO, "smoke", {"target.training.learning_rate": "0.1", "seeds": "7"})
    record = json.loads(json.dumps(dump(config)))
    record["forgotten"] = 1
    with pytest.raises(ConfigError, match="forgotten: unknown field"):
        like_run(ZOO, "smoke", record)


def test_the_runs_of_a_grid_are_told_apart_by_what_is_varied(zoo):
    made = [configure(zoo, "smoke", one) for one in grid(zoo, "smoke", ["target.training.learning_rate=1e-3,3e-4", "seeds=1"])]
    assert labels(made) == ["learning_rate=1e-3", "learning_rate=3e-4"]
    # One of them is the preset's own, which the shortest overrides do not say.
    short = [
        dataclasses.replace(c, overrides=tuple(f"{k}={v}" for k, v in overrides_between(c.preset_config, c.config).items()))
        for c in made
    ]
    assert labels(short) == ["learning_rate=0.001", "learning_rate=0.0003"]
    assert labels(made[:1]) == [""]
    both = ["target.training.iterations=5,6", "sources.*.training.iterations=3,4"]
    assert labels([configure(zoo, "smoke", one) for one in grid(zoo, "smoke", both)])[1] == (
        "target.training.iterations=5, sources.*.training.iterations=4"
    )
    with pytest.raises(ConfigError, match="a grid of 1,001 runs; at most 1000"):
        grid(zoo, "smoke", [f"target.training.seed={','.join(map(str, range(1001)))}"])


# ------------------------------------------------------------------------------------------------------------- the command


def test_plan_takes_a_file_and_shows_every_run_of_a_grid(command, tmp_path):
    code, out, _ = command("show", "toys.counting", "--toml")
    assert code == 0
    (tmp_path / "study.toml").write_text(out)
    code, out, _ = command("plan", "--config", str(tmp_path / "study.toml"), "-S", "powers.cube.exponent=3,5", "--json")
    assert code == 0
    runs = json.loads(out)
    assert len({run["run"] for run in runs}) == len(runs) == 2
    code, plain, _ = command("plan", "toys.counting", "--json")
    assert json.loads(plain)["run"] == runs[0]["run"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["plan"], "NAME: is missing; name a pipeline ("),
        (["plan", "--config", "x.toml", "--like", "x"], "--like: cannot be given together with --config"),
        (["plan", "--config", "https://x/y.toml"], "--config: 'https://x/y.toml' is a URL"),
        (["plan", "--like", "nothing", "--root", "nowhere"], "no run is known under"),
        (["show", "toys.counting", "-S", "powers.cube.exponent=3,5"], "these lists make a grid of 2 runs, which `plan` shows"),
    ],
)
def test_wrong_use_is_one_line(command, args, message):
    code, out, err = command(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
