import time

import pytest

from zoocast.words import duration, moment, redacted, some, visible


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.085, "85 ms"),
        (0.85, "0.8 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (185.0, "3:05"),
        (3599.6, "1:00:00"),
        (7800.0, "2:10:00"),
    ],
)
def test_a_duration_is_short_and_rounds_up_to_the_next_unit(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_moment_is_local_time_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert moment(1.7e9) == "2023-11-14 23:13:20"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_of_a_long_list_the_first_are_named_and_the_rest_are_counted() -> None:
    assert some(["a", "b", "c"], 3) == "a, b, c"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert some([], 2) == ""


def test_what_would_act_on_a_terminal_is_visible():
    assert visible("plain – 実験 é\t", keep="\t") == "plain – 実験 é\t"
    hostile = "\x1b[2J\r\n\x00\x7f\x9b\u202e\u2066\u200b\u2028\udcff"
    assert visible(hostile).isprintable()
    assert visible("a\x1bb\u202ec") == "a\\u001bb\\u202ec"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run --tracking-uri http://me:pass@lab:5000/mlflow --json", "run --tracking-uri http://lab:5000/mlflow --json"),
        ("ui 'https://lab/?token=abc#x' now", "ui 'https://lab/' now"),
        ("s3://key:a/b@c@bucket/prefix", "s3://bucket/prefix"),
        ("http://me:p?ss@lab", "http://..."),
        ("http://lab/?user=me@home", "http://..."),
        ("a@b.example and sqlite:///runs/mlflow.db", "a@b.example and sqlite:///runs/mlflow.db"),
    ],
)
def test_urls_are_shown_without_what_is_secret(text: str, shown: str) -> None:
    assert redacted(text) == shown
