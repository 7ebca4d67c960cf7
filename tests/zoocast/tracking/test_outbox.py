"""What is to be delivered, on disk: places that survive a rename and a move, and damage that costs nothing but time."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocast.tracking import Journal
from zoocast.tracking.outbox import PIPELINE, Ledger, Line, Position, ledgers


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path, "zoo-to-target-0123abcd", "zoo-to-target", "local")


def test_it_is_read_back_as_it_was_written(ledger, tmp_path):
    ledger.put(Line("zoo", PIPELINE, "runs/zoo", {"a": "b"}))
    ledger.put(Line("source", "aaa", "steps/source-aaa", settled="killed", until=12))
    assert Ledger.load(tmp_path, ledger.run) == ledger
    assert ledgers(tmp_path) == [ledger]


def test_a_line_of_the_same_key_is_replaced(ledger):
    ledger.put(Line("source", "aaa", "steps/source-aaa", settled="killed", until=12))
    ledger.put(Line("source", "aaa", "steps/source-aaa"))
    assert ledger.lines == [Line("source", "aaa", "steps/source-aaa")]


def test_a_damaged_ledger_is_no_ledger(ledger, tmp_path):
    ledger.save()
    for text in ("", "{", "[]", '{"run": 1}'):
        (tmp_path / "delivery" / f"{ledger.run}.json").write_text(text)
        assert Ledger.load(tmp_path, ledger.run) is None
        assert ledgers(tmp_path) == []


def test_a_damaged_position_is_the_beginning(ledger, tmp_path):
    ledger.keep("local", "aaa", Position(journal="j", run_id="r", offset=99))
    assert ledger.position("local", "aaa").offset == 99
    (path,) = (tmp_path / "delivery" / "local").rglob("aaa.json")
    path.write_text('{"offset": 99, "surprise": 1}')
    assert ledger.position("local", "aaa") == Position()


def test_places_are_relative_to_the_root_and_final(ledger, tmp_path):
    assert ledger.place(tmp_path / "steps" / "source-aaa.partial") == "steps/source-aaa"
    assert ledger.place(Path("/elsewhere/source-aaa")) == "/elsewhere/source-aaa"


def test_the_journal_is_found_before_and_after_the_rename(ledger, tmp_path):
    line = Line("source", "aaa", "steps/source-aaa")
    assert ledger.journal(line) is None
    partial, final = tmp_path / "steps" / "source-aaa.partial", tmp_path / "steps" / "source-aaa"
    partial.mkdir(parents=True)
    Journal(partial / "journal.jsonl")
    assert ledger.journal(line) == partial / "journal.jsonl"
    partial.rename(final)
    assert ledger.journal(line) == final / "journal.jsonl"
    # made all over again beside the old result: the new work counts, unless the old one is what this run has used
    partial.mkdir()
    Journal(partial / "journal.jsonl")
    assert ledger.journal(line) == partial / "journal.jsonl"
    assert ledger.journal(Line("source", "aaa", "steps/source-aaa", settled="finished")) == final / "journal.jsonl"


def test_pending_counts_what_has_not_been_told(ledger, tmp_path):
    directory = tmp_path / "steps" / "source-aaa"
    directory.mkdir(parents=True)
    journal = Journal(directory / "journal.jsonl")
    journal.metrics({"a": 1.0}, step=0)
    ledger.put(Line("source", "aaa", "steps/source-aaa"))
    assert ledger.pending("local") == 3  # the header, a metric, and that there is a run
    ledger.keep("local", "aaa", Position(run_id="r", offset=journal.path.stat().st_size))
    assert ledger.pending("local") == 0
    assert ledger.pending("elsewhere") == 3
    ledger.settle(ledger.lines[0], "failed")
    journal.metrics({"a": 2.0}, step=1)  # another run's
    assert ledger.pending("local") == 1  # the status


@pytest.mark.parametrize("word", ["", "-a", "it's", "a b", "../x", "a/../x", "a//b", "a/", "a" * 201, "é"])
def test_names_that_would_break_a_search_or_a_path_are_refused(tmp_path, ledger, word):
    with pytest.raises(ValueError, match="named with letters"):
        Ledger(tmp_path, word, "zoo", "local")
    with pytest.raises(ValueError, match="key holds letters"):
        ledger.put(Line("source", word, "steps/x"))


def test_a_step_that_had_been_done_before_brings_its_parts(ledger, tmp_path):
    step = tmp_path / "steps" / "search-aaa"
    (step / "trials" / "one").mkdir(parents=True)
    Journal(step / "journal.jsonl").child("one", step / "trials" / "one")
    Journal(step / "trials" / "one" / "journal.jsonl").status("finished")
    ledger.settle(Line("search", "aaa", "steps/search-aaa"), "finished")
    (part,) = ledger.parts(ledger.lines[0])
    assert part == Line("one", "aaa/one", "trials/one", owner="aaa")
    assert ledger.journal(part) == step / "trials" / "one" / "journal.jsonl"
    assert ledger.unsettled() == []
    assert ledger.status(part, Position(said="finished")) == "finished"
    assert ledger.status(part, Position(said="running")) == "killed"  # its step has left it behind


PARTS = st.sampled_from(["..", ".", "/", "//", "a", "a.b", " ", "~", "é", "\n", "a" * 250])


@given(st.lists(PARTS, max_size=6).map("".join), st.lists(PARTS, max_size=6).map("".join))
def test_a_part_that_a_journal_names_is_refused_or_lies_in_its_steps_folder(name: str, place: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        ledger, step = Ledger(root, "run", "zoo", "local"), root / "steps" / "search-aaa"
        step.mkdir(parents=True)
        Journal(step / "journal.jsonl").close()
        owner = Line("search", "aaa", "steps/search-aaa", settled="finished")
        try:
            ledger.adopt(owner, {"kind": "child", "name": name, "file": place})
        except ValueError:
            assert ledger.lines == []
            return
        (part,) = ledger.lines
        assert Path(os.path.normpath(step / part.directory)).is_relative_to(step)
        ledger.keep("local", part.key, Position())
        assert [path.name for path in Path(folder).iterdir()] == ["root"]
        assert len(list((root / "delivery" / "local" / "run").iterdir())) == 1


def test_a_run_is_forgotten_with_all_its_books(ledger, tmp_path):
    other = Ledger(tmp_path, "other", "zoo", "local")
    for one in (ledger, other):
        one.put(Line("source", "aaa", "steps/source-aaa"))
        one.keep("local", "aaa", Position())
        one.mark("far", complete=True)
    ledger.forget()
    assert ledgers(tmp_path) == [other]
    assert [path for path in tmp_path.rglob("*") if ledger.run in path.name] == []
    assert other.is_complete("far")
