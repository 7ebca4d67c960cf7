"""What tests of several packages share."""

import os
import subprocess
import sys

import pytest

from tests.shell import command, empty_store, finished, finished_root, shell, shell_in  # noqa: F401

# moto's S3 in a process of its own, so that Ray's workers and the test do not wait for each other.
SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
import boto3
host, port = server.get_host_and_port()
boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=f"lab-{port}")
print(port, flush=True)
sys.stdin.read()
"""


ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_a_user():
    """Whoever runs the tests may work on a cluster of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def s3_port():
    """The port of a loopback S3 with the bucket ``lab-PORT``."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT
    )
    try:
        yield int(server.stdout.readline())
    finally:
        server.communicate("")


@pytest.fixture(scope="module")
def store(s3_port):
    """The URL of a bucket, which this process and its children know how to reach; every test uses a prefix of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}"}).items():
            patch.setenv(name, value)
        yield f"s3://lab-{s3_port}"
