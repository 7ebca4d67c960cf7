"""The image: what can be known of a Dockerfile without building it."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def instructions(text):
    """(instruction, arguments) of each line, with continuations joined and comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def stages(text):
    """The instructions of each stage by its name, in order; every stage has one."""
    found = {}
    for word, rest in instructions(text):
        if word == "FROM":
            stage = found.setdefault(rest.split()[2], [])
        stage.append((word, rest))
    return found


def is_sent(source, ignored):
    """Whether a path is sent to the builder: the last pattern that matches decides, as with .gitignore."""
    sent = True
    for pattern in ignored:
        if fnmatch.fnmatch(source, pattern.removeprefix("!")):
            sent = pattern.startswith("!")
    return sent


def faults(text, ignored):
    """What makes the image unfit."""
    found = [fault for word, rest in instructions(text) for fault in faults_of(word, rest, stages(text), ignored)]
    users = {name: [rest for word, rest in stages(text)[name] if word == "USER"] for name in ("zoocast", "mlflow")}
    found += [f"{name} runs as root" for name, user in users.items() if user != ["1000"]]
    python = stages(text)["base"][0][1].split()[0].removeprefix("python:").removesuffix("-slim")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if python not in SpecifierSet(project["project"]["requires-python"]):
        found.append(f"Python {python} is not what requires-python says")
    if python != project["tool"]["mypy"]["python_version"]:
        found.append(f"Python {python} is not what the constraints are pinned for")
    return found


def faults_of(word, rest, known_stages, ignored):
    """What is wrong with one instruction."""
    if word == "COPY" and rest.startswith("--from="):
        stage = rest.split()[0].partition("=")[2]
        return [] if stage in known_stages else [f"{stage} is no stage"]
    if word == "COPY":
        sources = rest.split()[:-1]
        missing = [f"{source} is not there" for source in sources if not (ROOT / source).exists()]
        return missing + [f"{source} is not sent to the builder" for source in sources if not is_sent(source, ignored)]
    if word == "RUN" and "pip install" in rest and "-c constraints.txt" not in rest:
        return ["pip does not keep to the constraints"]
    if word in ("ENV", "ARG") and re.search("PASSWORD|TOKEN|SECRET|_KEY", rest):
        return ["a secret is in the image"]
    return []


@pytest.fixture
def text(cluster):
    """The Dockerfile."""
    return (cluster / "Dockerfile").read_text()


@pytest.fixture
def ignored(cluster):
    """The patterns of Dockerfile.dockerignore."""
    return [line for line in (cluster / "Dockerfile.dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def test_the_image_is_fit(text, ignored):
    assert faults(text, ignored) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("COPY searchspaces searchspaces", "COPY searchspace searchspaces", "searchspace is not there"),
        ("COPY searchspaces searchspaces", "COPY tests tests", "tests is not sent to the builder"),
        ("COPY --from=build /", "COPY --from=built /", "built is no stage"),
        ("-c constraints.txt ${TORCH", "${TORCH", "pip does not keep to the constraints"),
        ("ENV PATH", "ENV RAY_AUTH_TOKEN=abc PATH", "a secret is in the image"),
        ("USER 1000\nEXPOSE", "EXPOSE", "mlflow runs as root"),
        ("python:3.11-slim", "python:3.10-slim", "Python 3.10 is not what requires-python says"),
        ("python:3.11-slim", "python:3.12-slim", "Python 3.12 is not what the constraints are pinned for"),
    ],
)
def test_a_fault_is_seen(text, ignored, old, new, found):
    assert old in text
    assert found in faults(text.replace(old, new), ignored)


def test_everything_that_is_installed_is_copied(text):
    sources = {source for word, rest in instructions(text) if word == "COPY" for source in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {Path(folder).parts[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    assert packages | {"pyproject.toml", "constraints.txt", project["project"]["readme"]} <= sources
    assert set(project["project"]["license-files"]) <= sources


@pytest.mark.parametrize("path", ["runs", ".git", ".venv", "mlflow.env", "cluster", "tests", "id_ed25519"])
def test_results_keys_and_history_are_not_sent(ignored, path):
    assert not is_sent(path, ignored)


def test_torch_comes_from_an_index_that_is_given(text):
    (index,) = [rest for word, rest in stages(text)["build"] if word == "ARG"]
    assert index == "TORCH_INDEX="
    assert any(
        '${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}' in rest for word, rest in stages(text)["build"] if word == "RUN"
    )


def test_the_default_is_the_image_of_the_nodes(text):
    assert list(stages(text))[-1] == "zoocast"
