"""What is to be exported, on disk: places that survive a rename and a move, and damage that costs nothing but time."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocast.errors import InfrastructureError
from zoocast.tracking import Journal
from zoocast.tracking.entries import Child
from zoocast.tracking.outbox import PIPELINE, Cursor, Outbox, Stream, outboxes


@pytest.fixture
def outbox(tmp_path) -> Outbox:
    return Outbox(tmp_path, "zoo-to-target-0123abcd", "zoo-to-target", "local")


def test_an_outbox_is_read_back_as_it_was_written(outbox, tmp_path):
    outbox.put(Stream("zoo", PIPELINE, "runs/zoo", {"a": "b"}))
    outbox.put(Stream("source", "aaa", "steps/source-aaa", settled="killed", until=12))
    assert Outbox.load(tmp_path, outbox.run) == outbox
    assert outboxes(tmp_path) == [outbox]


def test_outboxes_and_cursors_are_on_disk_under_the_names_that_they_always_had(outbox, tmp_path):
    outbox.put(Stream("source", "aaa", "steps/source-aaa"))
    outbox.save_cursor("local", "aaa", Cursor(reported="running", exported="killed"))
    of_stream, of_run = (json.loads(path.read_text()) for path in sorted((tmp_path / "delivery").rglob("*.json")))
    assert [each["key"] for each in of_run["lines"]] == ["aaa"]
    assert (of_stream["said"], of_stream["told"]) == ("running", "killed")
    assert outbox.cursor("local", "aaa") == Cursor(reported="running", exported="killed")


def test_a_stream_of_the_same_key_is_replaced(outbox):
    outbox.put(Stream("source", "aaa", "steps/source-aaa", settled="killed", until=12))
    outbox.put(Stream("source", "aaa", "steps/source-aaa"))
    assert outbox.streams == [Stream("source", "aaa", "steps/source-aaa")]


def test_a_damaged_outbox_is_taken_for_none(outbox, tmp_path):
    outbox.save()
    for text in ("", "{", "[]", '{"run": 1}'):
        (tmp_path / "delivery" / f"{outbox.run}.json").write_text(text)
        assert Outbox.load(tmp_path, outbox.run) is None
        assert outboxes(tmp_path) == []


def test_a_damaged_cursor_begins_again_at_the_start(outbox, tmp_path):
    outbox.save_cursor("local", "aaa", Cursor(journal="j", run_id="r", offset=99))
    assert outbox.cursor("local", "aaa").offset == 99
    (path,) = (tmp_path / "delivery" / "local").rglob("aaa.json")
    path.write_text('{"offset": 99, "surprise": 1}')
    assert outbox.cursor("local", "aaa") == Cursor()


def test_directories_are_written_down_relative_to_the_root_and_without_partial(outbox, tmp_path):
    assert outbox.place(tmp_path / "steps" / "source-aaa.partial") == "steps/source-aaa"
    assert outbox.place(Path("/elsewhere/source-aaa")) == "/elsewhere/source-aaa"


def test_a_steps_journal_is_found_before_and_after_its_folder_is_renamed(outbox, tmp_path):
    line = Stream("source", "aaa", "steps/source-aaa")
    assert outbox.journal(line) is None
    partial, final = tmp_path / "steps" / "source-aaa.partial", tmp_path / "steps" / "source-aaa"
    partial.mkdir(parents=True)
    Journal(partial / "journal.jsonl")
    assert outbox.journal(line) == partial / "journal.jsonl"
    partial.rename(final)
    assert outbox.journal(line) == final / "journal.jsonl"
    # made all over again beside the old result: the new work counts, unless the old one is what this run has used
    partial.mkdir()
    Journal(partial / "journal.jsonl")
    assert outbox.journal(line) == partial / "journal.jsonl"
    assert outbox.journal(Stream("source", "aaa", "steps/source-aaa", settled="finished")) == final / "journal.jsonl"


def test_pending_counts_entries_and_statuses_that_a_store_lacks(outbox, tmp_path):
    directory = tmp_path / "steps" / "source-aaa"
    directory.mkdir(parents=True)
    journal = Journal(directory / "journal.jsonl")
    journal.metrics({"a": 1.0}, step=0)
    outbox.put(Stream("source", "aaa", "steps/source-aaa"))
    assert outbox.pending("local") == 3  # the header, a metric, and that there is a run
    outbox.save_cursor("local", "aaa", Cursor(run_id="r", offset=journal.path.stat().st_size))
    assert outbox.pending("local") == 0
    assert outbox.pending("elsewhere") == 3
    outbox.settle(outbox.streams[0], "failed")
    journal.metrics({"a": 2.0}, step=1)  # another run's
    assert outbox.pending("local") == 1  # the status


@pytest.mark.parametrize("word", ["", "-a", "it's", "a b", "../x", "a/../x", "a//b", "a/", "a" * 201, "é"])
def test_names_that_would_break_a_search_or_a_path_are_refused(tmp_path, outbox, word):
    with pytest.raises(ValueError, match="named with letters"):
        Outbox(tmp_path, word, "zoo", "local")
    with pytest.raises(ValueError, match="key holds letters"):
        outbox.put(Stream("source", word, "steps/x"))


def test_an_experiment_is_named_as_its_pipeline_which_may_be_any_module(tmp_path):
    for module in ("MyLab.study", "kräfte.study", "_mine.study", "a" * 250):
        Outbox(tmp_path, "run", module, "local").save()
        assert Outbox.load(tmp_path, "run").experiment == module
    for other in ("", "a b", "it's", "../x", "a" * 251):
        with pytest.raises(ValueError, match="an experiment is named as a module is"):
            Outbox(tmp_path, "run", other, "local")


def test_a_step_that_had_been_done_before_has_streams_for_its_parts(outbox, tmp_path):
    step = tmp_path / "steps" / "search-aaa"
    (step / "trials" / "one").mkdir(parents=True)
    Journal(step / "journal.jsonl").child("one", step / "trials" / "one")
    Journal(step / "trials" / "one" / "journal.jsonl").status("finished")
    outbox.settle(Stream("search", "aaa", "steps/search-aaa"), "finished")
    (part,) = outbox.parts(outbox.streams[0])
    assert part == Stream("one", "aaa/one", "trials/one", owner="aaa")
    assert outbox.journal(part) == step / "trials" / "one" / "journal.jsonl"
    assert outbox.unsettled() == []
    assert outbox.status(part, Cursor(reported="finished")) == "finished"
    assert outbox.status(part, Cursor(reported="running")) == "killed"  # its step has left it behind


PARTS = st.sampled_from(["..", ".", "/", "//", "a", "a.b", " ", "~", "é", "\n", "a" * 250])


@given(st.lists(PARTS, max_size=6).map("".join), st.lists(PARTS, max_size=6).map("".join))
def test_a_part_that_a_journal_names_is_refused_or_lies_in_its_steps_folder(name: str, place: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        outbox, step = Outbox(root, "run", "zoo", "local"), root / "steps" / "search-aaa"
        step.mkdir(parents=True)
        Journal(step / "journal.jsonl").close()
        owner = Stream("search", "aaa", "steps/search-aaa", settled="finished")
        try:
            outbox.add_part(owner, Child(name, place))
        except ValueError:
            assert outbox.streams == []
            return
        (part,) = outbox.streams
        assert Path(os.path.normpath(step / part.directory)).is_relative_to(step)
        outbox.save_cursor("local", part.key, Cursor())
        assert [path.name for path in Path(folder).iterdir()] == ["root"]
        assert len(list((root / "delivery" / "local" / "run").iterdir())) == 1


def test_a_run_is_forgotten_with_its_cursors_in_every_store(outbox, tmp_path):
    other = Outbox(tmp_path, "other", "zoo", "local")
    for one in (outbox, other):
        one.put(Stream("source", "aaa", "steps/source-aaa"))
        one.save_cursor("local", "aaa", Cursor())
        one.mark("far", complete=True)
    with outbox.held(), pytest.raises(InfrastructureError, match="is being synced by another process"):
        outbox.forget()
    assert outbox in outboxes(tmp_path)
    outbox.forget()
    assert outboxes(tmp_path) == [other]
    assert [path for path in tmp_path.rglob("*") if outbox.run in path.name] == []
    assert other.is_complete("far")
