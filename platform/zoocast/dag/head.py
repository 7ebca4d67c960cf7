"""Whether the head of a Ray cluster answers, asked with a deadline.

The kernel takes connections for a process that hangs or is stopped. Ray's own calls then wait for minutes, deaf to Ctrl-C. So the
port is asked for the first words of its protocol, and calls to Ray that need the head are made in a thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar

from zoocast.errors import Interrupted, ZoocastError

__all__ = ["leave", "promptly", "silence"]

T = TypeVar("T")

# HTTP/2, RFC 9113, section 3.4: a client's first words, with an empty frame of settings; a server's are settings as well.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the fourth byte of a frame is its type
THREAD = "zoocast-promptly"


def silence(address: str, seconds: float) -> str:
    """Why Ray's head at `address` (HOST:PORT) says nothing within `seconds`; empty when it answers."""
    host, _, port = address.rpartition(":")
    try:
        if not host or not port.isdigit():
            raise ValueError("an address is HOST:PORT, such as 10.0.0.1:6379")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as connection:
            try:
                return _ask(connection)
            except TimeoutError:
                return f"it takes connections and says nothing for {seconds:g} s, so it hangs or is stopped"
    except (OSError, OverflowError, ValueError) as error:  # UnicodeError, of a host's name that can be none, is a ValueError
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _ask(connection: socket.socket) -> str:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        # Whose certificate it is Ray itself looks at; here a handshake shows that somebody is at home.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.wrap_socket(connection, do_handshake_on_connect=True).close()
        return ""
    connection.sendall(PREFACE)
    answer = connection.recv(9)
    return "" if answer[3:4] == bytes([SETTINGS]) else "what answers there is no head of Ray"


def promptly(call: Callable[[], T], seconds: float) -> T:
    """What `call` returns or raises within `seconds`. Signals are heard meanwhile.

    Raises:
        TimeoutError: it has not returned; its thread is left to itself.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=THREAD).start()
    return future.result(seconds)


def leave(code: int) -> NoReturn:
    """End the process with this exit code, at once where a call of `promptly` hangs still, or something was interrupted.

    On Python's own way out it may crash: a library that was left half-way has threads that work on.
    """
    if code == Interrupted.exit_code or any(thread.name == THREAD for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(
                OSError, AttributeError, ZoocastError
            ):  # nobody reads it, or it was closed from the beginning
                stream.flush()
        os._exit(code)
    sys.exit(code)
