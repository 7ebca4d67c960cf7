"""The shape of the repository that other things rely on."""

import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_platform_is_a_source_root_and_never_a_package():
    # platform/__init__.py would shadow the standard library: torch fails to import and Ray workers hang without an error.
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_wins_from_the_repository_root():
    code = "import platform; print(platform.python_version())"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == sys.version.split()[0].rstrip("+")


def test_every_package_is_in_the_wheel():
    import tomllib

    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(base).parts)
        for base in (ROOT / "platform", ROOT)
        for top in ("zoocast", "pipelines", "searchspaces")
        for path in (base / top).rglob("__init__.py")
    }
    assert declared == found


def test_every_template_and_style_sheet_is_in_the_wheel():
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    base = ROOT / "platform"
    shipped = {path for package, globs in declared.items() for g in globs for path in base.joinpath(*package.split(".")).glob(g)}
    read = {path for path in (base / "zoocast").rglob("*") if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert read == shipped != set()


def test_every_package_that_set_up_installs_is_pinned():
    pinned = {normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    # Ray has copies of some packages in folders of its own. The last four come with the interpreter, or are this project.
    here = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {normal(d.metadata["Name"]) for d in here} - {"pip", "setuptools", "wheel", "zoocast"}
    assert sorted(installed - pinned) == []


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()
