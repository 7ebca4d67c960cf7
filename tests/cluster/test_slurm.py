"""slurm.sh, executed for real: a head and a worker on this machine, with Slurm's two programs played by short scripts."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
JOB = 70_000_000 + os.getpid()  # part of folder names in /tmp
SECONDS = 3  # the work that is interrupted

# Slurm starts the command on the nodes that were asked for; here all of them are this machine.
SRUN = """#!/bin/bash
echo "srun $* [mode=$RAY_AUTH_MODE token=$RAY_AUTH_TOKEN_PATH]" >>"$SLURM_LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>"$SLURM_LOG"
"""


@pytest.mark.parametrize("check", [["bash", "-n"], ["shellcheck", "--severity=warning"]], ids=["bash", "shellcheck"])
def test_the_shell_takes_it_and_refuses_a_broken_one(cluster, check, tmp_path):
    if shutil.which(check[0]) is None:
        pytest.skip(f"no {check[0]} on this machine")
    assert subprocess.run([*check, cluster / "slurm.sh"], check=False).returncode == 0
    broken = tmp_path / "broken.sh"
    broken.write_text((cluster / "slurm.sh").read_text().replace('exit "$code"', "if [ $cod = 0 ]; then exit $(code); f"))
    assert subprocess.run([*check, broken], capture_output=True, check=False).returncode != 0


def test_slurm_reads_what_the_script_asks_for(cluster):
    asked = [line.removeprefix("#SBATCH --") for line in (cluster / "slurm.sh").read_text().splitlines() if line[:7] == "#SBATCH"]
    assert {"ntasks-per-node=1", "requeue", "open-mode=append", "signal=B:USR1@180"} <= set(asked)


class Job:
    """One Slurm job: its folder, and what its script did."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        self.log = folder / "slurm.log"
        self.token = folder / "home" / ".ray" / f"slurm-{JOB}.token"
        self.temporary = Path(f"/tmp/ray-{JOB}")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {
            "HOME": str(folder / "home"),
            "USER": "ada",
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT / "platform", ROOT))),
            "SLURM_LOG": str(self.log),
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURMD_NODENAME": "localhost",
            "SLURM_JOB_ID": str(JOB),
            "SLURM_CPUS_PER_TASK": "1",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody: what it should know waits
        }

    def start(self, nodes, log):
        settings = ["-S", f"powers.square.seconds={SECONDS}", "-S", "powers.cube.seconds=0"]
        environment = self.environment | {"SLURM_JOB_NUM_NODES": str(nodes)}
        command = ["bash", ROOT / "cluster" / "slurm.sh", "run", "toys.counting", "--root", self.root, *settings]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def processes(self):
        """What runs of this job's Ray."""
        here = str(self.temporary)
        return [process for process in psutil.process_iter(["cmdline"]) if here in " ".join(process.info["cmdline"] or ())]

    def end(self):
        """Whatever a failed test left."""
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)


def wait_until(condition, what, seconds=120):
    """Fail when the condition does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job on two nodes whose time is nearly up while it works, and which Slurm then starts again, on one node this time."""
    job = Job(tmp_path_factory.mktemp("slurm"))
    try:
        with (job.folder / "first.log").open("w") as log, job.start(2, log) as script:
            said = job.folder / "first.log"
            wait_until(lambda: "square: started" in said.read_text() or script.poll() is not None, "no step has started")
            assert script.poll() is None, said.read_text()
            job.token_mode, job.token_length = stat.S_IMODE(job.token.stat().st_mode), len(job.token.read_text())
            job.alive = len(job.processes())
            script.send_signal(signal.SIGUSR1)
            job.first_code = script.wait(timeout=120)
        job.first_said, job.first_log = said.read_text(), job.log.read_text()
        job.left = len(job.processes())
        job.token_left = job.token.exists()
        job.log.unlink()
        with (job.folder / "second.log").open("w") as log, job.start(1, log) as script:
            job.second_code = script.wait(timeout=180)
        job.second_said, job.second_log = (job.folder / "second.log").read_text(), job.log.read_text()
        yield job
    finally:
        job.end()


def test_both_nodes_join_with_the_token_of_the_job(job):
    assert "2 nodes, 2 CPUs" in job.first_said
    assert (job.token_mode, job.token_length) == (0o600, 64)
    head, worker = (line for line in job.first_log.splitlines() if "ray start" in line)
    assert "--nodelist=localhost" in head
    assert "--exclude=localhost" in worker
    for line in (head, worker):
        assert f"[mode=token token={job.token}]" in line
        assert "--num-cpus=1 --num-gpus=0" in line


def test_shortly_before_the_end_it_stops_and_queues_itself_again(job):
    assert job.first_code == 130, job.first_said
    assert f"scontrol requeue {JOB}" in job.first_log
    assert "square: stopped" in job.first_said


def test_it_leaves_no_process_and_no_token(job):
    assert job.alive > 0
    assert job.left == 0
    assert not job.token_left


def test_the_same_command_goes_on_and_ends_well(job):
    assert job.second_code == 0, job.second_said
    assert "numbers: started" in job.first_said
    assert "numbers: started" not in job.second_said, "what was finished is not done again"
    assert "scontrol" not in job.second_log
    assert list(job.root.glob("steps/report-*/report.html"))
    assert not job.temporary.exists(), "the nodes' disks are cleared"
