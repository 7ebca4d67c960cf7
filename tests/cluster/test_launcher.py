"""Ray's cluster launcher: local.yaml and aws.yaml, by Ray's own validator, EC2's own model, and our rules for the token."""

import botocore.session
import botocore.validate
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = ("local.yaml", "aws.yaml")
TOKEN = "~/.ray/auth_token"


def unsafe(config):
    """What would let strangers in."""
    found = []
    commands = [c for key in ("head_start_ray_commands", "worker_start_ray_commands") for c in config[key] if "ray start" in c]
    if len(commands) != 2 or any("RAY_AUTH_MODE=token" not in command for command in commands):
        found.append("Ray starts without a token")
    if "--dashboard-host=127.0.0.1" not in commands[0]:
        found.append("the dashboard, which takes jobs, listens to others")
    if config["file_mounts"].get(TOKEN) != TOKEN or not any(f"chmod 600 {TOKEN}" in c for c in config["setup_commands"]):
        found.append("the token is not brought as a file of its owner")
    if "RAY_AUTH_TOKEN=" in str(config):
        found.append("the token is in the file")
    return found


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_it(documents, name):
    (config,) = documents(name)
    validate_config(prepare_config(config))


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("local.yaml", "provider/head_ip", None, "head_ip"),
        ("local.yaml", "provider/worker_ips", None, "worker_ips"),
        ("local.yaml", "setup_command", ["true"], "'setup_command' was unexpected"),
        ("local.yaml", "auth/ssh_user", 7, "7 is not of type 'string'"),
        ("aws.yaml", "head_node_type", "nobody", "must be one of `available_node_types`"),
        ("aws.yaml", "available_node_types/gpu/min_workers", 9, "`max_workers` is smaller"),
        ("aws.yaml", "available_node_types/gpu/resources/GPU", "one", "'one' is not of type"),
        ("aws.yaml", "docker/container_name", None, "Must provide a container"),
        ("aws.yaml", "provider/security_group/Name", "zoocast", "'Name' was unexpected"),
    ],
)
def test_ray_refuses_a_broken_one(documents, change, name, path, value, says):
    (config,) = documents(name)
    change(config, path, value)
    # Ray raises whatever its parts raise: a schema's error, an AssertionError, a KeyError.
    with pytest.raises(Exception, match=says):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", FILES)
def test_only_who_has_the_token_gets_in(documents, name):
    (config,) = documents(name)
    assert unsafe(config) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("head_start_ray_commands/1", "ray start --head --dashboard-host=127.0.0.1", "Ray starts without a token"),
        ("worker_start_ray_commands/1", "ray start --address=$RAY_HEAD_IP:6379", "Ray starts without a token"),
        (
            "head_start_ray_commands/1",
            "RAY_AUTH_MODE=token ray start --head",
            "the dashboard, which takes jobs, listens to others",
        ),
        (f"file_mounts|{TOKEN}", None, "the token is not brought as a file of its owner"),
        ("setup_commands", [], "the token is not brought as a file of its owner"),
        ("setup_commands/0", f"chmod 600 {TOKEN}; export RAY_AUTH_TOKEN=abc", "the token is in the file"),
    ],
)
def test_an_open_door_is_seen(documents, change, name, path, value, found):
    (config,) = documents(name)
    if "|" in path:  # a key that has slashes itself
        group, key = path.split("|")
        del config[group][key]
    else:
        change(config, path, value)
    assert unsafe(config) == [found]


@pytest.fixture(scope="module")
def ec2():
    """``ec2(node_config)``: what EC2's RunInstances would say of it."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    counts = {"MinCount": 1, "MaxCount": 1}  # as Ray adds
    return lambda config: botocore.validate.ParamValidator().validate(config | counts, model).generate_report()


@pytest.mark.parametrize("kind", ["head", "cpu", "gpu"])
def test_ec2_knows_every_field_of_a_machine(documents, ec2, kind):
    (config,) = documents("aws.yaml")
    assert ec2(config["available_node_types"][kind]["node_config"]) == ""


def test_ec2_refuses_an_unknown_field(documents, change, ec2):
    (config,) = documents("aws.yaml")
    machine = config["available_node_types"]["gpu"]["node_config"]
    change(machine, "MetadataOptions/HttpToken", "required")
    assert "HttpToken" in ec2(machine)


def test_aws_lets_ssh_in_and_nothing_else(documents):
    (config,) = documents("aws.yaml")
    assert [(rule["FromPort"], rule["ToPort"]) for rule in config["provider"]["security_group"]["IpPermissions"]] == [(22, 22)]


def test_aws_has_a_head_that_stays_and_machines_that_come_when_asked_for(documents):
    (config,) = documents("aws.yaml")
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert [types[kind]["min_workers"] for kind in ("cpu", "gpu")] == [0, 0]
    assert types["gpu"]["resources"]["GPU"] == 1
