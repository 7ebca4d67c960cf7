"""Journals: whole lines, torn lines, several writers, files by their place, and one point per (metric, step)."""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from zoocast.errors import InfrastructureError, Interrupted
from zoocast.tracking import Journal, curves, read_entries, read_journal
from zoocast.tracking.entries import Artifact, Entry, Header, Metrics, Note, Params, StatusChange, decode, encode

PLATFORM = Path(__file__).parents[3] / "platform"


def entries(path: Path) -> list[Entry | None]:
    return [entry for entry, _ in read_journal(path)]


def test_a_journals_entries_are_read_back_in_order_behind_a_header(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.params({"learning_rate": 1e-3, "layers": None, "warm": True})
    journal.metrics({"train/loss": 0.1}, step=7)
    journal.note("# hello\n")
    header, params, metrics, note = entries(path)
    assert isinstance(header, Header)
    assert len(header.id) == 32
    assert params == Params({"learning_rate": "0.001", "layers": "None", "warm": "True"}, time=params.time)
    assert metrics == Metrics(7, {"train/loss": 0.1}, time=metrics.time)  # repr of a float is exact: 0.1, not 0.1000001
    assert metrics.time >= header.time > 1_700_000_000_000  # milliseconds
    assert note == Note("# hello\n", time=note.time)


def test_a_line_of_the_file_is_its_kind_its_time_and_its_fields():
    line = encode(Metrics(7, {"loss": 0.1, "gap": math.nan}, time=5))
    assert line == b'{"kind":"metrics","time":5,"step":7,"values":{"loss":0.1,"gap":"nan"}}\n'
    assert encode(StatusChange("failed", time=5)) == b'{"kind":"status","time":5,"status":"failed"}\n'


def test_kinds_and_fields_of_a_later_version_are_passed_over_and_damaged_lines_are_no_entries():
    assert decode(b'{"kind":"note","time":5,"text":"hello","colour":"red"}') == Note("hello", time=5)
    assert decode(b'{"kind":"sound","time":5,"file":"a.wav"}') == Entry(time=5)
    for line in (b"", b'{"kind":"metr', b"{}", b"[]", b"7", b'{"kind":"note","time":5}', b'{"kind":[],"time":5}'):
        assert decode(line) is None
    assert decode(b'{"kind":"metrics","time":5,"step":7,"values":{"loss":"low"}}') is None


@pytest.mark.parametrize(
    "fields",
    [
        '"metrics","step":"7","values":{}',
        '"metrics","step":true,"values":{}',
        '"metrics","step":9223372036854775808,"values":{}',
        '"metrics","step":7,"values":[]',
        '"params","values":{"a":1}',
        '"status","status":"done"',
        '"compare","metric":"m","params":"a"',
        '"compare","metric":"m","params":[1]',
        '"model","file":"a","name":"b","alias":3,"step":0',
        '"dataset","name":"a","digest":"b","source":"c","context":"d","profile":{"a":[]}',
        '"note","text":null',
    ],
)
def test_a_line_with_a_value_of_a_wrong_type_is_no_entry(fields):
    assert decode(f'{{"time":5,"kind":{fields}}}'.encode()) is None


def test_opening_a_journal_again_appends_and_keeps_its_header(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).metrics({"a": 1.0}, step=0)
    Journal(path).metrics({"a": 2.0}, step=1)
    assert [type(entry) for entry in entries(path)] == [Header, Metrics, Metrics]


def test_a_torn_last_line_is_not_read_and_spoils_nothing_that_follows(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.metrics({"a": 1.0}, step=0)
    whole = path.stat().st_size
    journal.metrics({"a": 2.0}, step=1)
    os.truncate(path, whole + 9)  # as a kill in the middle of a write leaves it
    assert [type(entry) for entry in entries(path)] == [Header, Metrics]
    Journal(path).metrics({"a": 3.0}, step=2)
    _, first, torn, last = entries(path)
    assert (first.step, torn, last.step) == (0, None, 2)


def test_what_is_logged_after_a_full_disk_has_room_again_is_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, limits[1]))
    try:
        with pytest.raises(InfrastructureError, match=r"the disk took 9 of \d+ bytes"):
            journal.metrics({"a": 1.0}, step=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.metrics({"a": 2.0}, step=1)
    assert [type(entry) for entry in entries(path)] == [Header, Metrics]


def test_reading_a_journal_goes_on_from_an_offset_and_stops_before_a_given_byte(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    ends = []
    for step in range(3):
        journal.metrics({"a": 1.0}, step=step)
        ends.append(path.stat().st_size)
    assert [(e.step, end) for e, end in read_journal(path, ends[0])] == [(1, ends[1]), (2, ends[2])]
    assert [e.step for e, _ in read_journal(path, ends[0], until=ends[1])] == [1]
    assert list(read_journal(path, ends[1], until=ends[2] - 1)) == []


def test_relative_files_are_placed_by_the_journal_not_by_the_working_directory(tmp_path, monkeypatch):
    step = tmp_path / "step.partial"
    step.mkdir()
    monkeypatch.chdir(tmp_path)  # as Ray does with its workers
    journal = Journal(step / "journal.jsonl")
    journal.model("model", "source-one")
    journal.artifact(step / "curves" / "loss.png", "figures")
    journal.artifact(tmp_path / "elsewhere.html")
    journal.image("strips/val", b"png", step=20)
    files = [entry.file for entry in entries(step / "journal.jsonl")[1:]]
    assert files == ["model", "curves/loss.png", str(tmp_path / "elsewhere.html"), "images/strips-val-00000020.png"]
    assert (step / files[3]).read_bytes() == b"png"


def test_files_of_the_same_root_are_named_from_the_journal_on(tmp_path):
    directory = tmp_path / "root" / "runs" / "one"
    directory.mkdir(parents=True)
    with Journal(directory / "journal.jsonl") as journal:
        journal.artifact(tmp_path / "root" / "steps" / "report-1" / "table.md")
        journal.artifact(tmp_path / "elsewhere.txt")
    named = [entry.file for entry in read_entries(directory / "journal.jsonl", Artifact)]
    assert named == ["../../steps/report-1/table.md", str(tmp_path / "elsewhere.txt")]


def test_a_journal_is_written_on_while_its_directory_is_renamed(tmp_path):
    partial, final = tmp_path / "step.partial", tmp_path / "step"
    partial.mkdir()
    journal = Journal(partial / "journal.jsonl")
    partial.rename(final)
    journal.metrics({"a": 1.0}, step=0)
    assert [type(entry) for entry in entries(final / "journal.jsonl")] == [Header, Metrics]


def test_four_processes_that_write_at_once_keep_every_line_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys; from pathlib import Path; from zoocast.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for step in range(500): journal.metrics({'worker/' + sys.argv[2]: 0.5, 'padding': step * 1e-9}, step=step)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PLATFORM)}
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)], env=environment) for i in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    logged = curves(path)
    for i in range(4):
        assert logged[f"worker/{i}"] == [(step, 0.5) for step in range(500)]
    assert None not in entries(path)


def test_of_a_repeated_step_the_first_value_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for step, value in [(0, 1.0), (10, 0.5), (20, 0.3)]:
        journal.metrics({"train/loss": value}, step=step)
    journal.rewind(5)
    for step, value in [(10, 0.6), (20, 0.4), (30, 0.2)]:
        journal.metrics({"train/loss": value}, step=step)
    assert curves(tmp_path / "journal.jsonl") == {"train/loss": [(0, 1.0), (10, 0.5), (20, 0.3), (30, 0.2)]}


def test_non_finite_numbers_survive_as_what_they_are_in_strict_json(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).metrics({"nan": math.nan, "up": math.inf, "down": -math.inf}, step=0)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    read = curves(path)
    assert math.isnan(read["nan"][0][1])
    assert (read["up"], read["down"]) == ([(0, math.inf)], [(0, -math.inf)])


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "finished"), (RuntimeError("no"), "failed"), (Interrupted("stop"), "killed"), (KeyboardInterrupt(), "killed")],
)
def test_as_a_context_a_journal_logs_how_the_step_ended(tmp_path, error, status):
    path = tmp_path / "journal.jsonl"
    try:
        with Journal(path):
            if error is not None:
                raise error
    except (RuntimeError, Interrupted, KeyboardInterrupt):
        pass
    assert [entry.status for entry in entries(path)[1:]] == ["running", status]


@pytest.mark.parametrize("name", ["", "loss@1", "ü" * 251, "tab\there"])
def test_names_that_mlflow_would_refuse_are_refused_where_they_are_logged(tmp_path, name):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="a name holds letters"):
        journal.metrics({name: 1.0}, step=0)


@pytest.mark.parametrize("alias", ["latest", "Latest", "v3"])
def test_aliases_that_mlflow_reserves_are_refused(tmp_path, alias):
    with pytest.raises(ValueError, match="MLflow reserves the alias"):
        Journal(tmp_path / "journal.jsonl").model("model", "source", alias=alias)


def test_a_journal_that_cannot_be_written_is_an_infrastructure_error(tmp_path):
    with pytest.raises(InfrastructureError, match="No such file"):
        Journal(tmp_path / "gone" / "journal.jsonl")
    if Path("/dev/full").exists():
        with pytest.raises(InfrastructureError, match="No space left"):
            Journal(Path("/dev/full"))


def test_importing_tracking_imports_nothing_slow():
    code = "import sys, zoocast.tracking; print(sorted({'mlflow', 'torch', 'numpy', 'PIL', 'ray'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PLATFORM)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
