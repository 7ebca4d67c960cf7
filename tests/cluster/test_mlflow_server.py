"""The MLflow server's files: by the Compose specification's schema, systemd, and MLflow's own command line."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
SECRET = re.compile("PASSWORD|SECRET")


# ---------------------------------------------------------------------------------------------------------------- compose


@pytest.fixture(scope="module")
def validate():
    """Raises for what the Compose specification does not know."""
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate


@pytest.fixture
def compose(documents):
    """The compose file, afresh."""
    (document,) = documents("mlflow.compose.yaml")
    return document


def unsafe(compose):
    """What would let strangers in, or start in the wrong order."""
    found = []
    for name, service in compose["services"].items():
        if any(not port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", ())):
            found.append(f"{name} listens to others")
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and not re.fullmatch(r"\$\{\w+:\?.+\}", value):
                found.append(f"{variable} of {name} is in the file")
        for other, wish in service.get("depends_on", {}).items():
            if wish["condition"] == "service_healthy" and "test" not in compose["services"][other].get("healthcheck", {}):
                found.append(f"{name} waits for {other}, which nobody asks how it is")
    command = compose["services"]["mlflow"]["command"]
    if "--app-name=basic-auth" not in command:
        found.append("mlflow asks for no password")
    if any("@" in part and ":" in part.partition("://")[2].partition("@")[0] for part in command):
        found.append("a password is in mlflow's command")
    return found


def test_the_schema_takes_it(compose, validate):
    validate(compose)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("services/mlflow/command", 7),
        ("services/mlflow/healthchek", {}),
        ("services/mlflow/depends_on/postgres/condition", "service_well"),
        ("services/postgres/healthcheck/interval", 5),
        ("services/postgres/volumes", "postgres:/var/lib/postgresql/data"),
        ("service", {}),
    ],
)
def test_the_schema_refuses_a_broken_one(compose, change, validate, path, value):
    change(compose, path, value)
    with pytest.raises(jsonschema.ValidationError):
        validate(compose)


def test_strangers_stay_out(compose):
    assert unsafe(compose) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("services/mlflow/ports/0", "5000:5000", "mlflow listens to others"),
        ("services/postgres/ports", ["5432:5432"], "postgres listens to others"),
        ("services/mlflow/environment/PGPASSWORD", "abc", "PGPASSWORD of mlflow is in the file"),
        ("services/mlflow/environment/PGPASSWORD", "${P:-abc}", "PGPASSWORD of mlflow is in the file"),
        ("services/postgres/healthcheck", None, "mlflow waits for postgres, which nobody asks how it is"),
        ("services/mlflow/command/5", "--workers=4", "mlflow asks for no password"),
        ("services/mlflow/command/6", "--backend-store-uri=postgresql://a:b@c/d", "a password is in mlflow's command"),
    ],
)
def test_an_open_door_is_seen(compose, change, path, value, found):
    change(compose, path, value)
    assert unsafe(compose) == [found]


def test_what_a_service_names_is_there(compose, cluster):
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert source in compose["volumes"] or (cluster / source).is_file()
    build = compose["services"]["mlflow"]["build"]
    dockerfile = cluster / build["context"] / build["dockerfile"]
    assert f" AS {build['target']}\n" in dockerfile.read_text()


# ---------------------------------------------------------------------------------------------------------------- systemd


class Unit:
    """A unit file: ``unit["Service"]["User"]`` is the list of all values of a key."""

    def __init__(self, text):
        self.sections = {}
        for line in text.replace("\\\n", " ").splitlines():
            if header := re.fullmatch(r"\[(\w+)\]", line):
                section = self.sections.setdefault(header[1], {})
            elif line and not line.startswith("#"):
                key, equals, value = line.partition("=")
                assert equals, f"neither a section nor KEY=VALUE: {line}"
                section.setdefault(key, []).append(value.strip())

    def __getitem__(self, section):
        return self.sections[section]


def open_doors(unit):
    """What a server's unit must say and this one does not."""
    wanted = {
        "User": "mlflow",
        "EnvironmentFile": "/etc/zoocast/mlflow.env",
        "Restart": "on-failure",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "UMask": "0077",
        "StateDirectoryMode": "0700",
    }
    found = [key for key, value in wanted.items() if unit["Service"].get(key) != [value]]
    (command,) = unit["Service"]["ExecStart"]
    found += [flag for flag in ("--host=127.0.0.1", "--app-name=basic-auth", "--serve-artifacts") if flag not in command.split()]
    return found


@pytest.fixture
def unit_text(cluster):
    """The unit file."""
    return (cluster / "mlflow.service").read_text()


def test_the_unit_closes_its_doors(unit_text):
    unit = Unit(unit_text)
    assert set(unit.sections) == {"Unit", "Service", "Install"}
    assert unit["Install"] == {"WantedBy": ["multi-user.target"]}
    assert open_doors(unit) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("User=mlflow\n", "", "User"),
        ("ProtectSystem=strict", "ProtectSystem=no", "ProtectSystem"),
        ("UMask=0077", "UMask=0022", "UMask"),
        ("--host=127.0.0.1", "--host=0.0.0.0", "--host=127.0.0.1"),
        ("--app-name=basic-auth", "", "--app-name=basic-auth"),
    ],
)
def test_an_open_door_of_the_unit_is_seen(unit_text, old, new, found):
    assert old in unit_text
    assert open_doors(Unit(unit_text.replace(old, new))) == [found]


def systemd_says(text, folder):
    """``systemd-analyze verify`` of a unit whose program is replaced by one that is there: (exit code, what it said)."""
    unit = folder / "mlflow.service"
    unit.write_text(text.replace("/opt/zoocast/bin/mlflow", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_takes_the_unit(unit_text, tmp_path):
    assert systemd_says(unit_text, tmp_path) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_refuses_a_broken_unit(unit_text, tmp_path):
    _, said = systemd_says(unit_text.replace("ProtectHome=yes", "ProtectHomes=yes"), tmp_path)
    assert "ProtectHomes" in said


# ---------------------------------------------------------------------------------------------------------------- MLflow

ASK = """
import json
from mlflow.cli import cli

print(json.dumps([flag for option in cli.commands["server"].params for flag in (*option.opts, *option.secondary_opts)]))
"""


def unknown_flags(words, known):
    """Those of an ``mlflow server ...`` that this MLflow does not know."""
    assert words[1] == "server", words
    return [word for word in words[2:] if word.partition("=")[0] not in known]


def test_mlflow_knows_every_flag(compose, unit_text):
    # In a process of its own: some of what MLflow imports warns, and here warnings are errors.
    printed = subprocess.run([sys.executable, "-W", "ignore", "-c", ASK], capture_output=True, text=True, check=True).stdout
    known = json.loads(printed.splitlines()[-1])
    (command,) = Unit(unit_text)["Service"]["ExecStart"]
    assert unknown_flags(shlex.split(command), known) == []
    assert unknown_flags(compose["services"]["mlflow"]["command"], known) == []
    assert unknown_flags(["mlflow", "server", "--host=x", "--allow-hosts=x"], known) == ["--allow-hosts=x"]


def test_the_settings_of_the_users_have_no_secret(cluster):
    settings = configparser.ConfigParser()
    settings.read(cluster / "mlflow-auth.ini")
    auth = settings["mlflow"]
    assert auth["default_permission"] == "READ"
    assert "admin_password" not in auth  # MLflow refuses to begin without one from outside
    assert ":" not in auth["database_uri"].partition("://")[2].partition("@")[0]
