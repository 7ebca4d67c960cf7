from pathlib import Path

import pytest

from zoocast.data.moving_mnist import MovingMnistConfig
from zoocast.errors import ConfigError
from zoocast.store.typed import typed_path
from zoocast.zoo import SourceConfig


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b.npy", "a/b.npy"),
        ("/a/b.npy", "/a/b.npy"),
        ("~/b.npy", "/home/somebody/b.npy"),
        ("file:///a/my%20b.npy", "/a/my b.npy"),
        ("FILE://localhost/a", "/a"),
        ("10$.npy", "10$.npy"),
    ],
)
def test_what_people_type_is_understood(monkeypatch, text, path):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert typed_path(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://bucket/x.npy", "'s3://bucket/x.npy' is a URL, but only files that this machine sees"),
        ("https://example.org/x.npy", "is a URL"),
        ("file://elsewhere/x.npy", "is a URL"),
        ("$HOME/x.npy", r"'\$HOME/x\.npy' has the variable \$HOME, which only a shell replaces"),
        ("data/${WHERE}/x.npy", r"has the variable \$\{WHERE\}"),
        ("~nobody-of-this-name/x.npy", "has no home folder"),
        ("", "must be the path of a file or folder, but got ''"),
        ("a\0b", "must be the path"),
    ],
)
def test_what_is_no_path_of_this_machine_is_named_with_its_setting(text, message):
    with pytest.raises(ConfigError, match=message):
        typed_path(text)
    for field, make in [("path", MovingMnistConfig), ("test_path", MovingMnistConfig), ("model", SourceConfig)]:
        if text:
            with pytest.raises(ConfigError, match=message) as raised:
                make(**{field: text})
            assert raised.value.field == field


def test_a_dollar_in_the_name_of_a_file_that_is_there_is_no_variable(tmp_path):
    (tmp_path / "$x.npy").touch()
    assert typed_path(f"{tmp_path}/$x.npy") == tmp_path / "$x.npy"
