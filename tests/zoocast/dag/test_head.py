"""Whether a head answers, by what it says and not by who takes its connections."""

import socket
import threading
import time

import pytest

from zoocast.dag.head import promptly, silence


def answering(words: bytes) -> tuple[socket.socket, str]:
    """A server that says `words` to the first that connects, and its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(words)

    if words:
        threading.Thread(target=answer, daemon=True).start()
    return server, f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (bytes([0, 0, 24, 4, 0, 0, 0, 0, 0]), ""),  # as Ray's does
        (b"HTTP/1.1 400 Bad Request\r\n", "what answers there is no head of Ray"),
        (b"", "it takes connections and says nothing for 0.2 s, so it hangs or is stopped"),  # as for a stopped process
    ],
)
def test_a_head_is_heard_or_it_is_said_why_not(words: bytes, why: str) -> None:
    server, address = answering(words)
    with server:
        assert silence(address, 0.2) == why


def test_where_nobody_is_it_is_said_why() -> None:
    server, address = answering(b"")
    server.close()
    assert silence(address, 0.2) == "Connection refused"
    assert silence("x", 0.2) == "an address is HOST:PORT, such as 10.0.0.1:6379"


def test_a_call_that_hangs_is_left_and_others_return_or_raise() -> None:
    gate = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        promptly(gate.wait, 0.1)
    assert time.monotonic() - began < 5
    gate.set()
    assert promptly(lambda: 3, 5) == 3
    with pytest.raises(KeyError):
        promptly(lambda: {}["x"], 5)
