import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.shell import environment

FULL = "error: cannot write to stdout (No space left on device); free some space, or send the output elsewhere\n"


def typed(line, folder):
    """What a shell prints on stderr for a line in which PIPELINES is the command, and its exit code; stdout is a file."""
    line = line.replace("PIPELINES", f"{sys.executable} -m pipelines")
    with (folder / "stdout").open("w") as out:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment(), stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        ("PIPELINES show zoo-to-target | head -1; exit ${PIPESTATUS[0]}", 141, ""),
        ("PIPELINES --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("PIPELINES list > /dev/full", 4, FULL),
        ("PIPELINES list --json > /dev/full", 4, FULL),
        ("PIPELINES list >&-", 0, ""),
        ("PIPELINES list <&- >&- 2>&-", 0, ""),
        ("PIPELINES lsit 2> /dev/full", 2, ""),
        ("PIPELINES lsit 2>&-", 2, ""),
    ],
)
def test_output_that_nobody_takes_is_no_fault_and_no_traceback(tmp_path, line, code, err):
    assert typed(line, tmp_path) == (code, err)
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_opened_does_not_take_the_place_of_a_closed_stream(tmp_path):
    program = "from zoocast.cli.streams import secure; secure(); file = open('new', 'w'); print('lost'); assert file.fileno() > 2"
    line = f'{sys.executable} -c "{program}" <&- >&- 2>&-'
    assert typed(line, tmp_path) == (0, "")
    assert (tmp_path / "new").read_text() == ""


def recorded(shell):
    return json.loads(shell.run("status", "toys.counting", "--json").stdout)


@pytest.mark.usefixtures("finished")
def test_a_run_outlives_its_terminal_and_the_reader_of_its_pipe(shell):
    ours, theirs = pty.openpty()
    with shell.start("run", "toys.counting", "-S", "powers.square.seconds=1", stderr=theirs) as process:
        os.close(theirs)
        process.stdout.close()
        shown = b""
        while b"square" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as the kernel does, and to Ray's processes where they share our group
        process.wait(60)
    assert process.returncode == 0
    assert (recorded(shell)["state"], recorded(shell)["exit_code"]) == ("done", 0)


@pytest.mark.usefixtures("finished")
def test_a_run_needs_no_stream_at_all(shell):
    line = "PIPELINES run toys.counting -S powers.square.exponent=4 <&- >&- 2>&-"
    assert typed(line, shell.folder) == (0, "")
    assert (recorded(shell)["state"], recorded(shell)["exit_code"]) == ("done", 0)
