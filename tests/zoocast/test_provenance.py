"""Which code made a result, and on what machine."""

import subprocess
from pathlib import Path

import pytest
import torch

from zoocast.provenance import SENT_COMMIT, differences, git_state, machine


@pytest.fixture
def repository(tmp_path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_repository_is_its_commit(repository):
    assert git_state(repository / "package") == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    assert git_state(repository / "package" / "module.py")["dirty"] is False


@pytest.mark.parametrize("change", ["package/module.py", "package/new.py", "other.txt"])
def test_any_difference_from_the_commit_is_dirt(repository, change):
    (repository / change).write_text("x = 2\n")
    assert git_state(repository / "package")["dirty"] is True


def test_a_repository_that_only_surrounds_the_code_says_nothing_about_it(repository):
    installed = repository / ".venv" / "site-packages" / "zoocast"
    installed.mkdir(parents=True)
    (installed / "module.py").write_text("x = 1\n")
    state = git_state(installed)
    assert state["commit"] != git(repository, "rev-parse", "HEAD")
    assert state["dirty"] is False


def test_outside_of_a_repository_it_is_the_version(tmp_path):
    state = git_state(tmp_path)
    assert state["commit"].startswith("zoocast ") or state["commit"] == "unknown"


def test_code_that_was_sent_without_its_repository_is_what_its_sender_says(tmp_path, monkeypatch):
    monkeypatch.setenv(SENT_COMMIT, "0123abcd+")
    assert git_state(tmp_path) == {"commit": "0123abcd", "dirty": True}
    monkeypatch.setenv(SENT_COMMIT, "0123abcd")
    assert git_state(tmp_path) == {"commit": "0123abcd", "dirty": False}


def test_without_git_it_is_the_version(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state()["dirty"] is False
    assert " " in git_state()["commit"] or git_state()["commit"] == "unknown"


def test_a_machine_is_known_by_what_last_bits_hang_on(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = machine()
    assert found["processor"]
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in found["settings"].split()
    assert (found["threads"], found["onednn"][0]) == (str(torch.get_num_threads()), "v")


def test_only_what_differs_between_two_machines_is_named():
    here = {"processor": "A", "instructions": "avx2 avx512f fma", "threads": "1"}
    assert differences(here, here) == differences({}, here) == []  # results of before say nothing
    assert differences({**here, "processor": "B"}, here) == ["on another processor, B, here A"]
    there = {**here, "instructions": "avx2 amx_bf16 fma", "settings": "MKL_CBWR=AVX2"}
    assert differences(there, here) == [
        "with the instructions amx_bf16",
        "without the instructions avx512f",
        "with MKL_CBWR=AVX2, here with none",
    ]
