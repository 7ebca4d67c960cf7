import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.shell import REPOSITORY, environment
from zoocast.cli.streams import ASCII

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


# ------------------------------------------------------------------------------------------------------ what a console can show

PRINTS = """
import sys
from zoocast.cli.streams import secure, unguarded
from zoocast.cli.console import print_table
from zoocast.cli.views import print_json
secure()
print("0.041\\N{NO-BREAK SPACE}± 0.003, −0.5 … 1 → caf\\u00e9 \\u03b2")
print_table(["arm \\N{DOWNWARDS ARROW}", "mean"], [["tmu – 1", "0.1 ± 0.2"], ["l2-sp", "0.3"]])
print_json({"name": "\\u03b2"})
print("name\\x1b[2J\\u202e\\x9b", "\\udcff", file=sys.stderr)
unguarded(sys.stdout).write("\\x1b[1mbold\\x1b[0m\\n")
"""


@pytest.mark.parametrize(
    ("variables", "accented", "table"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, "caf\xe9", "tmu - 1  0.1 ± 0.2"),
        ({"PYTHONIOENCODING": "ascii"}, "caf\\xe9", "tmu - 1  0.1 +/- 0.2"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "caf\\xe9", "tmu - 1  0.1 +/- 0.2"),
    ],
)
def test_a_console_without_utf_8_gets_every_character_in_a_form_that_it_has(tmp_path, variables, accented, table):
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    program = [sys.executable, tmp_path / "prints.py"]
    done = subprocess.run(program, env=environment() | variables, capture_output=True, check=True)
    lines = done.stdout.decode("latin-1").splitlines()
    assert lines[0].replace("+/-", "±").replace("\xa0", " ") == f"0.041 ± 0.003, -0.5 ... 1 -> {accented} \\u03b2"
    width = len(table) - len("tmu - 1  ")
    assert lines[1:4] == [f"arm v    {'mean':>{width}}", table, f"l2-sp    {'0.3':>{width}}"]
    assert json.loads("".join(lines[4:7])) == {"name": "β"}


def test_characters_that_act_on_a_terminal_are_shown_and_only_our_own_colours_pass():
    done = subprocess.run([sys.executable, "-c", PRINTS], env=environment(), capture_output=True, check=True, encoding="utf-8")
    assert done.stderr == "name\\u001b[2J\\u202e\\u009b \\udcff\n"
    assert done.stdout.endswith("\x1b[1mbold\x1b[0m\n")


def test_every_character_in_our_sources_has_an_ascii_form():
    # What only figures and the page of the report hold has none.
    folders = [
        folder for folder in (REPOSITORY / "platform" / "zoocast").iterdir() if folder.name not in ("report", "__pycache__")
    ]
    files = [file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.py"))]
    assert {c for file in files for c in file.read_text("utf-8") if not c.isascii()} <= set(ASCII)
    assert "".join(ASCII.values()).isascii()


def test_a_kill_while_the_command_is_imported_is_told_without_a_traceback():
    killed = """if True:
        import os, signal, sys
        from pipelines.__main__ import main

        class KilledHere:
            def find_spec(self, name, *_):
                if name == "zoocast.cli.app":
                    os.kill(os.getpid(), signal.SIGTERM)

        sys.meta_path.insert(0, KilledHere())
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", killed], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
