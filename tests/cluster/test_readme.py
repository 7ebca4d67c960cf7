"""README.md of cluster/: each command's options exist, each file is there, and no way takes more than ten lines."""

import os
import re
import subprocess

import pytest

from tests.shown import commands, unknown

SECTIONS = ("By hand", "Machines reached by ssh", "AWS", "Kubernetes", "Slurm", "The MLflow server")


@pytest.fixture
def readme(cluster):
    """The text."""
    return (cluster / "README.md").read_text()


def test_every_option_exists(readme):
    assert {"ray", "pipelines"} <= {words[0] for words in commands(readme)}
    assert unknown(commands(readme)) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pipelines run zoo-to-target --adress x", ("pipelines", "--adress")),
        ("pipelines sumbit zoo-to-target", ("pipelines", "sumbit")),
        ("ray start --head --dashboard=127.0.0.1", ("ray", "--dashboard=127.0.0.1")),
        ("ray atach cluster/local.yaml", ("ray", "atach")),
    ],
)
def test_an_unknown_one_is_seen(line, found):
    assert unknown(commands(f"    {line}\n")) == [found]


def test_every_file_that_is_named_is_there(readme, cluster):
    named = set(re.findall(r"cluster/([\w.-]+[\w])", readme))
    assert named >= {"local.yaml", "aws.yaml", "raycluster.yaml", "rayjob.yaml", "slurm.sh", "mlflow.compose.yaml", "Dockerfile"}
    assert [name for name in sorted(named) if not (cluster / name).exists()] == []


def test_every_file_is_named(readme, cluster):
    files = {path.name for path in cluster.iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    assert [name for name in sorted(files) if name not in readme] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_no_way_takes_more_than_ten_lines(readme, section):
    (text,) = (part for part in readme.split("\n## ") if part.startswith(section))
    ways = text.split("\n\nOr ")
    assert all(1 <= len(commands(way)) <= 10 for way in ways)


def test_every_ray_that_is_started_asks_for_a_token(readme):
    by_hand = readme[readme.index("## By hand") : readme.index("## Machines")]
    assert by_hand.index("export RAY_AUTH_MODE=token") < by_hand.index("ray start")
    assert "--dashboard-host=127.0.0.1" in by_hand


def test_the_env_file_of_the_mlflow_server_has_all_that_compose_asks_for(readme, cluster, tmp_path):
    lines = [line.strip() for line in readme.splitlines() if ".config/zoocast" in line and "docker" not in line]
    script = "\n".join(["umask 077", *lines])
    subprocess.run(["bash", "-ec", script], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    file = tmp_path / ".config" / "zoocast" / "mlflow.env"
    assert file.stat().st_mode & 0o777 == 0o600
    values = dict(line.split("=") for line in file.read_text().splitlines())
    asked = set(re.findall(r"\$\{(\w+):\?", (cluster / "mlflow.compose.yaml").read_text()))
    assert set(values) == asked
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values.values())
