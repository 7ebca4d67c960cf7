"""One holder per lock in an object store, and none that outlives its process."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoocast.errors import InfrastructureError
from zoocast.store import locks as module
from zoocast.store.bucket import BucketRoot, open_bucket
from zoocast.store.claims import Claims, holders
from zoocast.store.locks import Holder
from zoocast.store.objects import Objects


@pytest.fixture
def root(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketRoot:
    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path))
    return open_bucket(f"{store}/{tmp_path.name}")


@pytest.fixture
def path(root: BucketRoot) -> Path:
    return root.folder / "locks" / "train-0123456789ab.lock"


def locks(run_id: str, root: BucketRoot) -> Claims:
    return Claims(run_id, root.objects, root.folder)


def claim(root: BucketRoot, path: Path, holder: Holder) -> None:
    root.objects.write(f"{root._name(path)}/{holder.token}", json.dumps(dataclasses.asdict(holder)))


def test_a_claimed_lock_is_held_by_one_and_free_after_release(root: BucketRoot, path: Path) -> None:
    with locks("first", root) as first, locks("second", root) as second:
        assert first.acquire(path) is None
        holder = second.acquire(path)
        assert holder is not None
        assert holder.run == "first"
        assert {lock: holder.run for lock, holder in holders(root.objects).items()} == {path.name: "first"}
        second.release(path)  # not its own: nothing happens
        assert second.acquire(path) is not None
        first.release(path)
        assert second.acquire(path) is None
    assert holders(root.objects) == {}


def test_of_many_drivers_that_claim_at_once_never_two_hold_the_lock(root: BucketRoot, path: Path) -> None:
    for attempt in range(3):
        claims = [locks(f"run{attempt}.{i}", root) for i in range(6)]
        won: list[Claims] = []
        gate = threading.Barrier(len(claims))

        def try_it(one: Claims, gate: threading.Barrier = gate, won: list[Claims] = won) -> None:
            gate.wait()
            if one.acquire(path) is None:
                won.append(one)

        threads = [threading.Thread(target=try_it, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1
        # Those that met each other have taken their claims back, so that the next one to come wins.
        assert len(holders(root.objects)) == len(won)
        for winner in won:
            winner.release(path)
        assert claims[0].acquire(path) is None
        claims[0].release(path)


def test_the_claims_of_dead_drivers_are_removed(root: BucketRoot, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    here = dataclasses.replace(Holder.this_process("dead"), pid=process.pid)
    elsewhere = dataclasses.replace(Holder.this_process("frozen"), machine="another")
    claims = locks("mine", root)
    claim(root, path, here)
    assert claims.acquire(path) is None
    claims.release(path)
    claim(root, path, elsewhere)
    holder = claims.acquire(path)
    assert holder is not None
    assert holder.run == "frozen"
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    assert claims.acquire(path) is None
    assert list(holders(root.objects)) == [path.name]


def test_a_claim_whose_rivals_could_not_be_listed_is_taken_back(
    root: BucketRoot, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, listed = locks("mine", root), iter([True, False])
    below = Objects.below

    def fails(self: Objects, folder: str) -> dict[str, int]:
        if not next(listed):
            raise InfrastructureError("the object store does not answer")
        return below(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "below", fails)
        with pytest.raises(InfrastructureError, match="does not answer"):
            claims.acquire(path)
    assert holders(root.objects) == {}


def test_a_held_claim_is_refreshed_and_one_that_was_taken_away_is_not_put_back(
    root: BucketRoot, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    beats = threading.Semaphore(0)
    refresh = Claims._refresh

    def beat(self: Claims, path: Path) -> None:
        refresh(self, path)
        beats.release()

    monkeypatch.setattr(Claims, "_refresh", beat)
    with locks("mine", root) as claims:
        assert claims.acquire(path) is None
        written = next(iter(root.objects.below("locks").values()))
        for _ in waits(lambda: next(iter(root.objects.below("locks").values())) > written):
            assert beats.acquire(timeout=30)
        root.objects.remove(f"{root._name(path)}/{claims.me.token}")
        for _ in range(3):
            assert beats.acquire(timeout=30)
        assert holders(root.objects) == {}


def waits(done: object) -> Iterator[None]:
    while not done():  # type: ignore[operator]
        yield
