"""Which code made a result."""

import subprocess
from pathlib import Path

import pytest

from zoocast.provenance import SENT_COMMIT, git_state


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
