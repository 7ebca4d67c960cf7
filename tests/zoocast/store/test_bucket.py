import concurrent.futures
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zoocast.cluster.connect import source_roots
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError
from zoocast.store.address import address, local, open_root, root_of
from zoocast.store.bucket import BucketRoot, open_bucket
from zoocast.store.folder import FolderRoot
from zoocast.store.objects import Objects

STEP = "train-0123456789ab"


@pytest.fixture
def machine(store, tmp_path, monkeypatch):
    """``machine(name)``: a new root as a machine with a cache of its own has it."""

    def on(name: str) -> BucketRoot:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / name))
        return open_bucket(f"{store}/{tmp_path.name}")

    return on


def begin(root, work="w"):
    """What the driver of an attempt writes first."""
    root.objects.write(f"steps/{STEP}.partial/attempt.json", json.dumps({"token": "t", "work": work}))
    root.unfinished.pull(STEP)
    return root.folder / "steps" / f"{STEP}.partial"


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != "done.json"}


def record(root, step):
    name, _, key = step.rpartition("-")
    return {"name": name, "key": key, "inputs": {}, "files": root.unfinished.handed_over(step)}


def finish(root, **files):
    """Make a finished step of `files` on the machine of `root`."""
    write(begin(root), **files)
    root.unfinished.push(STEP)
    root.finished.commit(STEP, record(root, STEP))
    return root.folder / "steps" / STEP


def objects(root):
    return set(root.objects.below(f"steps/{STEP}/data"))


# ------------------------------------------------------------------------------------------------------------------- roots


def test_a_path_is_a_root_itself_and_a_url_has_a_copy_on_this_machine(machine, tmp_path):
    assert open_root("runs/here") == FolderRoot(Path("runs/here"))
    assert root_of(tmp_path) == FolderRoot(tmp_path)
    assert address(tmp_path) == str(tmp_path)
    root = machine("a")
    assert open_root(f"{root.url}/") == root
    assert root_of(root.folder / "steps" / STEP) == root
    assert address(root.folder) == root.url
    assert address(root.folder / "steps" / STEP / "report.html") == f"{root.url}/steps/{STEP}/report.html"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://me:secret@bucket/x", "may hold no password and no key"),
        ("s3://bucket/x?access_key=AKIA", "may hold no password and no key"),
        ("s3:///x", "names no bucket"),
        ("s3://[x", "--root: is no URL"),
        ("nothing://bucket/x", "cannot be used"),
        ("s3://bucket/x?colour=red", "Unexpected query parameter"),
    ],
)
def test_a_url_that_cannot_be_a_root_is_refused_without_asking_a_server(url, message, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=message) as error:
        open_root(url)
    assert "secret" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_store_that_does_not_answer_is_an_infrastructure_error(machine, store):
    nowhere = BucketRoot(f"{store}-that-is-not-there/x", machine("a").folder)
    with pytest.raises(InfrastructureError, match="check the bucket, AWS_ENDPOINT_URL and the credentials"):
        nowhere.objects.write("name", "text")


def test_an_object_that_is_replaced_while_it_is_read_is_read_whole(machine):
    a = machine("a")
    texts = [json.dumps({"x": "x" * length}) for length in (1, 5000, 20)]
    a.objects.write("note", texts[0])
    done = threading.Event()

    def replace():
        while not done.is_set():
            for text in texts:
                a.objects.write("note", text)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = pool.submit(replace)
        try:
            read = {a.objects.read("note").decode() for _ in range(60)}
        finally:
            done.set()
        writing.result()
    assert read <= set(texts)
    assert len(read) > 1


# --------------------------------------------------------------------------------------------------------- unfinished steps


def test_another_machine_goes_on_with_what_was_handed_over(machine):
    a, b = machine("a"), machine("b")
    here = begin(a)
    write(here, journal="", checkpoints__1__state="one", empty="")
    (here / f".being-written.{0:032x}").write_text("half")
    (here / "ray").mkdir()
    (here / "ray" / "snapshot").write_text("Ray's")
    a.unfinished.push(STEP)
    there = begin(b)
    assert content(there) == {"journal": "", "checkpoints/1/state": "one", "empty": ""}
    write(there, checkpoints__2__state="two")
    (there / "checkpoints/1/state").unlink()
    b.unfinished.push(STEP)
    a.unfinished.pull(STEP)
    assert content(here) == {
        "journal": "",
        "checkpoints/2/state": "two",
        "empty": "",
        f".being-written.{0:032x}": "half",
        "ray/snapshot": "Ray's",
    }
    assert len(objects(a)) == 3  # the first checkpoint is gone there as well


def test_what_was_changed_here_and_not_handed_over_stays_unless_another_went_on(machine):
    a, b = machine("a"), machine("b")
    here = begin(a)
    write(here, state="1")
    a.unfinished.push(STEP)
    write(here, state="2, not handed over", other="new")
    a.unfinished.pull(STEP)
    assert content(here) == {"state": "2, not handed over", "other": "new"}
    write(begin(b), state="3")
    b.unfinished.push(STEP)
    a.unfinished.pull(STEP)
    assert content(here) == {"state": "3", "other": "new"}


def test_what_is_left_of_former_work_is_dropped_when_a_step_begins_anew(machine):
    a, b = machine("a"), machine("b")
    write(begin(a), state="of former work")
    a.unfinished.push(STEP)
    b.forget(STEP)
    begin(b, work="other")
    assert content(begin(a, work="other")) == {}


def test_an_open_journal_goes_on_behind_what_another_machine_wrote(machine):
    a, b = machine("a"), machine("b")
    here = begin(a) / "journal.jsonl"
    with here.open("a") as journal:
        journal.write("a begins\n")
        journal.flush()
        a.unfinished.push(STEP)
        with (begin(b) / "journal.jsonl").open("a") as there:
            there.write("b goes on\n")
        b.unfinished.push(STEP)
        a.unfinished.pull(STEP)
        journal.write("a ends\n")
    assert here.read_text() == "a begins\nb goes on\na ends\n"


def test_a_file_that_changes_while_it_is_sent_is_sent_again(machine, monkeypatch):
    a = machine("a")
    here = begin(a)
    write(here, log="1")
    sent = Objects._send

    def written_to_meanwhile(self, source, name):
        if (here / "log").read_text() == "1":
            (here / "log").write_text("1, 2")
        return sent(self, source, name)

    monkeypatch.setattr(Objects, "_send", written_to_meanwhile)
    a.unfinished.push(STEP)
    assert content(begin(machine("b"))) == {"log": "1, 2"}
    assert len(objects(a)) == 1


def test_two_machines_write_different_files_of_one_step(machine):
    machines = [machine("a"), machine("b"), machine("c")]
    for root in machines:
        write(begin(root), **{f"shard-{root.folder.parents[1].name}": "x" * 1000})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda root: root.unfinished.push(STEP), machines))
    assert set(machines[0].unfinished.index(STEP)) == {"shard-a", "shard-b", "shard-c"}
    machines[0].finished.commit(STEP, record(machines[0], STEP))
    assert set(content(machines[0].folder / "steps" / STEP)) == {"shard-a"}  # the rest comes when it is wanted
    assert set(content(machines[0].fetch(STEP))) == {"shard-a", "shard-b", "shard-c"}


# ----------------------------------------------------------------------------------------------------------- finished steps


def test_a_finished_step_is_the_same_everywhere_and_nothing_else_is_left_of_it(machine):
    a, b = machine("a"), machine("b")
    write(begin(a), model__weights="w", checkpoint="1")
    a.unfinished.push(STEP)
    (a.folder / "steps" / f"{STEP}.partial" / "checkpoint").unlink()
    a.unfinished.push(STEP)
    a.finished.commit(STEP, record(a, STEP))
    assert content(a.folder / "steps" / STEP) == content(b.fetch(STEP)) == {"model/weights": "w"}
    assert not a.objects.below(f"steps/{STEP}.partial")
    assert len(objects(a)) == 1
    assert local(address(a.folder / "steps" / STEP / "model/weights")).read_text() == "w"


def test_a_crash_before_the_record_leaves_an_unfinished_step(machine, monkeypatch):
    a, b = machine("a"), machine("b")
    write(begin(a), model="w")
    a.unfinished.push(STEP)
    write_object = Objects.write

    def killed(self, name, data):
        if name.endswith("done.json"):
            raise KeyboardInterrupt
        write_object(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            a.finished.commit(STEP, record(a, STEP))
    assert not b.know(STEP)
    with pytest.raises(IntegrityError, match=r"has no done.json"):
        b.fetch(STEP)
    assert content(begin(b)) == {"model": "w"}
    b.finished.commit(STEP, record(b, STEP))
    assert content(a.fetch(STEP)) == {"model": "w"}


def test_a_damaged_or_missing_object_is_an_integrity_error(machine):
    a, b = machine("a"), machine("b")
    finish(a, model="weights", other="x")
    name = next(name for name in objects(a) if name.endswith("~model"))
    a.objects.write(f"steps/{STEP}/data/{name}", "weighxs")
    with pytest.raises(IntegrityError, match="does not match its checksum"):
        b.fetch(STEP)
    a.objects.remove(f"steps/{STEP}/data/{name}")
    with pytest.raises(IntegrityError, match="lacks its file model"):
        b.fetch(STEP)
    assert "model" not in content(b.folder / "steps" / STEP)


def test_an_address_of_another_bucket_is_not_asked(machine):
    a = machine("a")
    finish(a, report="page")
    assert a.local(f"{a.url}/steps/{STEP}/report").read_text() == "page"
    for another in (f"s3://elsewhere/steps/{STEP}/report", f"{a.url}x/steps/{STEP}/report", "/etc/passwd"):
        with pytest.raises(IntegrityError, match="names a file outside of itself"):
            a.local(another)


def test_indexes_that_were_spoilt_are_passed_over(machine):
    a, b = machine("a"), machine("b")
    write(begin(a), model="w")
    a.unfinished.push(STEP)
    for number, spoilt in enumerate(("", "[1]", '{"work": "w", "files": {"model": 3}}', '{"work": "w"}')):
        a.objects.write(f"steps/{STEP}.partial/files/{number}.json", spoilt)
    assert content(begin(b)) == {"model": "w"}


def test_what_was_altered_in_a_copy_comes_again(machine):
    a, b = machine("a"), machine("b")
    finish(a, model="weights")
    copy = b.fetch(STEP) / "model"
    copy.write_text("weighxs")
    assert (b.fetch(STEP) / "model").read_text() == "weights"


def test_a_damaged_record_in_the_store_is_refused_wherever_it_is_read(machine):
    a, b = machine("a"), machine("b")
    finish(a, model="w")
    for spoilt in ("", "[]", '{"files": 3}', a.objects.read(f"steps/{STEP}/done.json").replace(b"train", b"trait")):
        a.objects.write(f"steps/{STEP}/done.json", spoilt)
        with pytest.raises(IntegrityError, match=r"cannot be used: .*: run again with --force train, or remove"):
            b.fetch(STEP)


@pytest.mark.parametrize("file", ["../../../outside", "/tmp/outside"])
def test_names_in_the_store_cannot_lead_out_of_the_copy(machine, file):
    a, b = machine("a"), machine("b")
    finish(a, model="w")
    done = json.loads(a.objects.read(f"steps/{STEP}/done.json"))
    done["files"] = {file: done["files"]["model"]}
    a.objects.write(f"steps/{STEP}/done.json", json.dumps(done))
    with pytest.raises(IntegrityError, match="outside of itself"):
        b.fetch(STEP)


def test_a_result_that_was_made_anew_replaces_the_copies_of_the_former_one(machine):
    a, b = machine("a"), machine("b")
    finish(a, model="old", gone="x")
    assert content(b.fetch(STEP)) == {"model": "old", "gone": "x"}
    finish(a, model="new")
    assert content(b.fetch(STEP)) == {"model": "new"}
    a.objects.remove(f"steps/{STEP}/")
    assert not b.know(STEP)
    assert not (b.folder / "steps" / STEP).exists()


def test_a_plan_fetches_records_without_the_files(machine):
    a, b = machine("a"), machine("b")
    finish(a, model="w")
    a.objects.write("steps/other-0123456789ab.partial/attempt.json", json.dumps({"token": "t", "work": "w"}))
    a.objects.write("steps/other-0123456789ab.partial/progress.json", json.dumps({"fraction": 0.5}))
    a.objects.write("steps/nothing-to-us-0123456789ab/done.json", "{}")
    b.refresh({STEP}, {"train", "other"})
    assert {p.name: sorted(q.name for q in p.iterdir()) for p in (b.folder / "steps").iterdir()} == {
        STEP: ["done.json"],
        "other-0123456789ab.partial": ["progress.json"],
    }


# --------------------------------------------------------------------------------------------------------------- the cache


def finished_steps(root, *names):
    for name in names:
        root.objects.write(f"steps/{name}.partial/attempt.json", json.dumps({"token": "t", "work": name}))
        root.unfinished.pull(name)
        write(root.folder / "steps" / f"{name}.partial", bank="x" * 1000)
        root.unfinished.push(name)
        root.finished.commit(
            name, {"name": name[:-13], "key": name[-12:], "inputs": {}, "files": root.unfinished.handed_over(name)}
        )


def test_steps_used_longest_ago_make_room_and_steps_in_use_stay(machine, monkeypatch):
    names = [f"bank-{number:012d}" for number in range(4)]
    finished_steps(machine("a"), *names)
    b = machine("b")
    monkeypatch.setenv("ZOOCAST_CACHE_GB", "2.5e-6")

    def held():
        return [name for name in names if (b.folder / "steps" / name / "bank").exists()]

    user = open_bucket(b.url)
    user.localize(b.folder / "steps" / names[0], b)
    b.fetch(names[1])
    os.utime(b.folder / "uses" / names[0], (0, 0))  # used longest ago, but held
    b.fetch(names[2])
    assert held() == [names[0], names[2]]
    assert (b.folder / "steps" / names[1] / "done.json").exists()
    del user
    os.utime(b.folder / "uses" / names[0], (0, 0))
    b.fetch(names[3])
    assert held() == [names[2], names[3]]
    users = [open_bucket(b.url) for _ in range(2)]
    for user, name in zip(users, names[2:], strict=True):
        user.localize(b.folder / "steps" / name, b)
    with pytest.raises(
        InfrastructureError, match=r"needs 1000 B on this machine, but ZOOCAST_CACHE_GB allows 2.4 KiB at .*2.0 KiB"
    ):
        b.fetch(names[0])


def test_several_processes_of_a_machine_fetch_a_step_only_once(machine, monkeypatch):
    finish(machine("a"), bank="x" * 100_000)
    b = machine("b")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(source_roots()))
    script = f"from zoocast.store.bucket import open_bucket; print(open_bucket({b.url!r}).fetch({STEP!r}) / 'bank')"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]  # and S3 was finalised without a word
    assert outputs == {str(b.folder / "steps" / STEP / "bank")}
    assert (b.folder / "steps" / STEP / "bank").stat().st_size == 100_000
