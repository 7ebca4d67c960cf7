"""What a driver fetches to its machine so that MLflow gets the journals of steps that run on others."""

import json

from zoocast.store.bucket import open_bucket
from zoocast.tracking import Journal
from zoocast.tracking.fetch import fetch_journal

STEP = "train-0123456789ab"


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_steps_journals_are_fetched_with_the_files_that_they_name_and_nothing_else(store, tmp_path, monkeypatch):
    def on(machine):
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        return open_bucket(f"{store}/root")

    worker, driver = on("worker"), on("driver")
    worker.objects.write(f"steps/{STEP}.partial/attempt.json", json.dumps({"token": "t", "work": "w"}))
    worker.unfinished.pull(STEP)
    there = worker.folder / "steps" / f"{STEP}.partial"
    for name in ("checkpoints/1", "bank/shard", "model/weights", "trials/one/checkpoint"):
        (there / name).parent.mkdir(parents=True)
        (there / name).write_text(name)
    journal = Journal(there / "journal.jsonl")
    journal.image("val/strip", b"PNG", step=1)
    journal.child("one", "trials/one")
    Journal(there / "trials/one/journal.jsonl").close()
    worker.unfinished.push(STEP)
    (there / "torn").write_text("not handed over")
    here = driver.folder / "steps" / f"{STEP}.partial"
    fetch_journal(here)
    assert files(here) == ["images/val-strip-00000001.png", "journal.jsonl", "trials/one/journal.jsonl"]

    journal.model("model", name="network")
    journal.close()
    worker.unfinished.push(STEP)
    driver.finished.commit(STEP, {"name": "train", "key": STEP[-12:], "inputs": {}, "files": driver.unfinished.handed_over(STEP)})
    fetch_journal(driver.folder / "steps" / STEP)
    assert files(driver.folder / "steps" / STEP) == [
        "done.json",
        "images/val-strip-00000001.png",
        "journal.jsonl",
        "model/weights",
        "trials/one/journal.jsonl",
    ]


def test_fetching_does_nothing_where_the_root_is_a_plain_folder(tmp_path):
    fetch_journal(tmp_path / "steps" / STEP)
    assert not files(tmp_path)
