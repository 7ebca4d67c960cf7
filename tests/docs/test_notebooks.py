"""The notebooks in docs/notebooks, executed one after the other in one folder, as their readers do."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import zoocast
from zoocast.cli.app import invoke

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.timeout(900)
def test_the_notebooks_run_from_the_first_cell_to_the_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    said = {}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
        said[path.name] = "\n".join(_text(cell) for cell in notebook.cells if cell.cell_type == "code")
    first, second, third = (said[path.name] for path in NOTEBOOKS)
    assert "spots: 112 train, 16 validation, 32 test clips of 1x16x16" in first
    assert "ok    range" in first
    errors = re.search(r"'tmu': ([\d.]+), 'copy-last': ([\d.]+)", second)
    assert errors is not None
    assert 0 < float(errors[1]) < 1
    assert "['target.tmu.seed0', 'evaluate.tmu', 'report']" in third
    # What Python has done is what the command finds done.
    assert len(zoocast.runs()) == 2
    like = zoocast.runs().index[0]
    assert invoke(["plan", "--like", like]) == 0
    assert "nothing to do" in capsys.readouterr().err


def _text(cell):
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
