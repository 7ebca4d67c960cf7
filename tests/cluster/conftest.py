"""The files in cluster/, and copies of them with one thing changed, which a check must refuse."""

import json
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"


@pytest.fixture
def cluster():
    """The folder."""
    return CLUSTER


@pytest.fixture
def documents():
    """``documents(name)``: all documents of a YAML file, which share nothing with each other."""
    return lambda name: [json.loads(json.dumps(document)) for document in yaml.safe_load_all((CLUSTER / name).read_text())]


@pytest.fixture
def change():
    """``change(document, path, value)``: set the value at a path with slashes, or take it out when `value` is None."""

    def apply(document, path, value):
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        for part in parents:
            document = document[part]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return apply
