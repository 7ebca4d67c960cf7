"""A run's page in MLflow must not stand between the user and the end of the run."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

from zoocast.cli.catalogue import configure, load
from zoocast.cli.tracked import tracked


def test_ctrl_c_ends_the_wait_for_a_server_that_never_answers(tmp_path, capsys):
    configured = configure(load("zoo-to-target"), "smoke", ())
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        try:
            with tracked(tmp_path, "run", configured, f"http://127.0.0.1:{deaf.getsockname()[1]}", "pipelines sync"):
                began = time.monotonic()
                timer.start()
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, before)
        assert time.monotonic() - began < 20
    shown = capsys.readouterr().err
    assert "MLflow does not know all of it yet (stopped by Ctrl-C)" in shown
    assert "send them with: pipelines sync" in shown
