"""The table of faults in docs/reliability.md names tests that exist."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_every_test_that_the_table_of_faults_names_exists():
    table = [line for line in (REPOSITORY / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in table[1:]]
    assert all(len(row) == 4 for row in rows)
    for fault, *_, named in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", named)
        assert tests, fault
        for path, name in tests:
            found = ast.parse((REPOSITORY / path).read_text()).body
            assert name in {node.name for node in found if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
