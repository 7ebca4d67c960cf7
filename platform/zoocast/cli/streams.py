"""stdin, stdout and stderr of the command: there from the first line on, and no work hangs on whether they can be written.

What is printed is made fit for the console: characters that its encoding lacks get an ASCII form, and those that would act on a
terminal are shown, but for what `unguarded` lets pass.

A pipe's reader goes, a terminal is closed, the disk behind a redirection is full: what is lost of stderr is lost. Lost data on
stdout end a command whose output was all that was wanted of it, but not a run (`outlived`).
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

from zoocast.errors import InfrastructureError
from zoocast.words import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputLost", "fitting", "outlived", "secure", "unguarded"]

# The ASCII forms of the other characters that zoocast prints.
ASCII = {
    "\N{NO-BREAK SPACE}": " ",
    "±": "+/-",
    "…": "...",
    "→": "->",
    "←": "<-",
    "≥": ">=",
    "≤": "<=",
    **dict(zip("–—−×·’↓↑✓✗▸▹■○●─│├└", "---x,'v^+x>~#o*-||`", strict=True)),
}


class OutputLost(InfrastructureError):
    """stdout could not be written. `quiet`: its reader has gone, as `head` does when it has seen enough."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout ({error.strerror}); free some space, or send the output elsewhere")
        self.quiet = error.errno == errno.EPIPE
        if self.quiet:
            self.exit_code = 128 + signal.SIGPIPE  # what a shell shows for a program that the pipe's end has ended


def secure() -> None:
    """Open what is closed of the three streams, and let stdout and stderr fail as this module says. Call it first of all."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Else the next file to be opened, a lock or a result, would take its place, and be written on by whatever prints.
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _stream(1, sys.stdout, required=True)
    sys.stderr = _stream(2, sys.stderr, required=False)


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """Inside the block neither a stdout that cannot be written nor a terminal that is closed (SIGHUP) ends anything."""
    raw = _raw(sys.stdout)
    # Ignored, and not handled: Ray's processes and all that they start inherit it.
    before = _on_hangup(signal.SIG_IGN)
    if raw is not None:
        raw.required = False
    try:
        yield
    finally:
        sys.stdout.flush()
        if raw is not None:
            raw.required = True
        _on_hangup(before)


def _on_hangup(handler: signal._HANDLER) -> signal._HANDLER:
    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        return signal.getsignal(signal.SIGHUP)
    return signal.signal(signal.SIGHUP, handler)


class _Output(io.RawIOBase):
    """The descriptor of stdout or stderr. Bytes that it does not take are dropped; of a `required` one that is said once."""

    def __init__(self, descriptor: int, *, required: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.required = required

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return self._write(data)
        except OSError as error:
            if not self.required:
                return memoryview(data).nbytes
            # Once: what is still in the buffers is flushed on the way out.
            self.required = False
            raise OutputLost(error) from None

    def _write(self, data: ReadableBuffer) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares a terminal or pipe with us may have made it so
            select.select([], [self._descriptor], [])
            return self._write(data)


class _Text(io.TextIOWrapper):
    """Text that can be printed on this console."""

    def write(self, text: str, /) -> int:
        return super().write(visible(text, keep="\n\t"))

    def write_all(self, text: str) -> int:
        """As `write`, with the control characters."""
        return super().write(text)


class _Unguarded:
    def __init__(self, stream: _Text) -> None:
        self._stream = stream
        self.write = stream.write_all

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unguarded(stream: TextIO) -> TextIO:
    """`stream` for those who colour text and move the cursor, and show no foreign text that is not `fitting`: rich's consoles."""
    return cast(TextIO, _Unguarded(stream)) if isinstance(stream, _Text) else stream


def fitting(text: str, stream: TextIO) -> str:
    """`text` as `stream` shows it, for those who count its width."""
    encoding = stream.encoding or "utf-8"
    return visible(text).encode(encoding, "zoocast").decode(encoding)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    # Of ASCII alone, or Python would ask again.
    return "".join(ASCII.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking), error.end


codecs.register_error("zoocast", _in_ascii)


def _stream(descriptor: int, given: TextIO | None, *, required: bool) -> TextIO:
    """With the encoding that Python has chosen for `given`, which is None where it found the descriptor closed."""
    stream = _Text(io.BufferedWriter(_Output(descriptor, required=required)), encoding="utf-8", errors="zoocast")
    if isinstance(given, io.TextIOWrapper):
        stream.reconfigure(encoding=given.encoding, errors="zoocast", line_buffering=given.line_buffering or given.write_through)
    return stream


def _raw(stream: TextIO) -> _Output | None:
    """Ours below `stream`; None below one that another program has put there, such as a test."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None
