"""What a driver brings to its machine so that MLflow is told of steps that run on others."""

import json

from zoocast.store.bucket import open_bucket
from zoocast.tracking import Journal
from zoocast.tracking.fetch import bring

STEP = "train-0123456789ab"


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_journals_come_with_the_files_of_which_they_speak_and_nothing_else(store, tmp_path, monkeypatch):
    def on(machine):
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        return open_bucket(f"{store}/told")

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
    bring(here)
    assert files(here) == ["images/val-strip-00000001.png", "journal.jsonl", "trials/one/journal.jsonl"]

    journal.model("model", name="network")
    journal.close()
    worker.unfinished.push(STEP)
    driver.finished.commit(STEP, {"inputs": {}, "files": driver.unfinished.handed_over(STEP)})
    bring(driver.folder / "steps" / STEP)
    assert files(driver.folder / "steps" / STEP) == [
        "done.json",
        "images/val-strip-00000001.png",
        "journal.jsonl",
        "model/weights",
        "trials/one/journal.jsonl",
    ]


def test_a_step_under_a_plain_folder_is_left_alone(tmp_path):
    bring(tmp_path / "steps" / STEP)
    assert not files(tmp_path)
