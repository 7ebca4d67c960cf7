"""What tests of several packages share."""

import os
import subprocess
import sys

import pytest

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


@pytest.fixture(scope="module")
def store():
    """The URL of an empty bucket on a loopback S3, which this process and its children know how to reach."""
    known = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | known
    )
    try:
        port = server.stdout.readline().strip()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (known | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}).items():
                patch.setenv(name, value)
            yield f"s3://lab-{port}"
    finally:
        server.communicate("")
