"""What libraries ask of the environment is there, whatever the command was started in."""

import getpass
import os
import urllib.request
from pathlib import Path

import pytest

from zoocast.cli.environment import home_problem, prepare
from zoocast.cluster.connect import private_folder
from zoocast.errors import ConfigError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything that `prepare` may set is put back afterwards."""
    for name in (*PROXIES, *(name.upper() for name in PROXIES), "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("HOME", "LOGNAME"):
        monkeypatch.setenv(name, os.environ.get(name, str(tmp_path)))


def test_a_sound_environment_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)
    prepare()
    assert (dict(os.environ), home_problem()) == (before, "")


@pytest.mark.parametrize(
    ("home", "problem"),
    [
        ("/dev/null/home", "the home /dev/null/home is no folder"),
        ("here", "there is no home folder (HOME is not set, or no absolute path)"),
        ("/etc/hostname", "the home /etc/hostname is no folder"),
    ],
)
def test_where_there_is_no_home_libraries_get_one_that_is_private(
    monkeypatch: pytest.MonkeyPatch, home: str, problem: str
) -> None:
    monkeypatch.setenv("HOME", home)
    prepare()
    assert home_problem() == problem
    assert os.environ["HOME"] == str(private_folder() / "home")
    assert os.access(os.environ["HOME"], os.W_OK)


def test_without_any_folder_to_write_in_commands_that_need_none_still_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setenv("RAY_TMPDIR", "/proc/x")
    prepare()
    assert home_problem() == "the home /dev/null/home is no folder"


def test_an_empty_home_is_that_of_the_list_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    known = os.path.expanduser("~")
    monkeypatch.setenv("HOME", "")
    prepare()
    assert Path.home() == Path(known)


def test_a_home_that_cannot_be_written_is_kept_for_what_lies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/sys")
    prepare()
    assert (os.environ["HOME"], home_problem()) == ("/sys", "the home folder /sys cannot be written")
    assert os.access(os.environ["MPLCONFIGDIR"], os.W_OK)  # else matplotlib complains in three lines


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    prepare()
    assert getpass.getuser() == "54321"  # torch and Ray ask this, and fail with a KeyError


def test_this_machine_is_reached_without_the_proxies_of_a_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "lab.invalid")
    prepare()
    for host in ("localhost", "127.0.0.1", "lab.invalid"):
        assert urllib.request.proxy_bypass(host)
    assert not urllib.request.proxy_bypass("example.invalid")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "lab.invalid,localhost,127.0.0.1,::1"


def test_a_folder_that_is_gone_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        ConfigError, match=r"the current folder cannot be entered \(No such file or directory\); cd to another one"
    ):
        prepare()
