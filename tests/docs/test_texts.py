"""The texts for people: their links, commands and excerpts hold, and the map is that of the house."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.shown import commands, inline_commands, missing_files, missing_targets, program_of, unknown, wrong_settings

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


def shown(path):
    """All commands of a text."""
    text = path.read_text()
    return [*commands(text), *inline_commands(text)]


@each_text
def test_every_command_has_the_options_and_settings_that_are_shown(path):
    of_text = shown(path)
    assert unknown(of_text) == []
    assert wrong_settings(of_text) == []
    assert missing_files(of_text) == []
    assert missing_targets(of_text) == []


def test_the_texts_show_commands_at_all():
    assert sum(program_of(words) == "pipelines" for path in TEXTS for words in shown(path)) > 50


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pipelines run zoo-to-targt", "there is no pipeline"),
        ("pipelines run zoo-to-target --preset lapto", "has no preset lapto"),
        ("pipelines plan zoo-to-target -S target.training.learning_rat=1", "unknown setting"),
        ("pipelines run zoo-to-target -S seeds=0", "seeds"),
    ],
)
def test_a_pipeline_preset_or_setting_that_is_not_there_is_seen(line, found):
    (problem,) = wrong_settings(commands(f"    {line}\n"))
    assert found in problem


def test_a_file_or_target_that_is_not_there_is_seen():
    assert missing_files(commands("    python benchmarks/speed.py\n    python benchmarks/bank.py read\n")) == [
        "benchmarks/speed.py"
    ]
    assert missing_targets(commands("    make rnu\n    make test PYTEST=x\n")) == ["rnu"]


@each_text
def test_every_link_leads_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), f"{target}#{anchor}"


def anchors(path):
    """The names of a text's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_page_is_reached_from_the_readme(path):
    assert f"docs/{path.name}" in (ROOT / "README.md").read_text()


def test_code_in_the_docs_stands_in_an_example_that_is_run():
    examples = [example.read_text() for example in (ROOT / "docs" / "examples").glob("*.py")]
    blocks = [block for path in TEXTS for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]
    assert len(blocks) >= 4
    assert [block for block in blocks if not any(block in example for example in examples)] == []


def test_the_readme_is_read_in_five_minutes():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 110
    assert len("\n".join(lines).split()) <= 1_100


def test_the_front_page_and_the_results_show_the_same_numbers():
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 6
    assert [row for row in rows if row not in (ROOT / "docs" / "results.md").read_text().splitlines()] == []


@pytest.mark.parametrize("name", ["prediction.png", "videos.png"])
def test_the_pictures_are_small(name):
    assert (ROOT / "docs" / name).stat().st_size <= 60_000


# ----------------------------------------------------------------------------------------------------------------------- the map


def floors():
    """The rooms of each floor as CONTRIBUTING.md draws them, from the top; = is beside the one above."""
    drawn = []
    for beside, room in re.findall(r"^\| (=?) ?\| `([\w.]+)` \| \S.* \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE):
        if beside:
            drawn[-1].append(room)
        else:
            drawn.append([room])
    return drawn


def test_the_map_is_the_layers_that_are_enforced():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert [" | ".join(rooms) for rooms in floors()] == layers


def test_every_room_is_on_the_map():
    found = {
        f"zoocast.{path.stem}"
        for path in (ROOT / "platform" / "zoocast").iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert {room for rooms in floors() for room in rooms if room.startswith("zoocast.")} == found
