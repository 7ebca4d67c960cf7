"""What is sent to a cluster, and above all what is not."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import _zip_files

from zoocast.cluster.package import LARGEST_BYTES, pack, rayignore, select
from zoocast.errors import ConfigError, DataError

REPOSITORY = Path(__file__).parents[3]


def write(folder: Path, *paths: str, text: str = "x") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_code_is_sent_and_what_tools_leave_behind_is_not(tmp_path: Path) -> None:
    sent = ["README.md", "build.py", "mylab/__init__.py", "mylab/data/build/x.py", "searchspaces/s.py"]
    write(tmp_path, *sent)
    write(
        tmp_path,
        ".git/config",
        ".venv/bin/python",
        "mylab/__pycache__/a.pyc",
        ".mypy_cache/x",
        "build/lib/a.py",
        "runs/r/run.json",
    )
    write(
        tmp_path,
        "node_modules/a.js",
        "mlflow.db",
        "mlflow.db-wal",
        "mlartifacts/a",
        "x.egg-info/PKG-INFO",
        "mylab/deep/node_modules/a",
    )
    selection = select(tmp_path)
    assert list(selection.files) == sent
    assert selection.left_out() == []


def test_data_and_weights_are_left_out_with_a_line_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "weights/best.safetensors", "train.npz", "mnist/t10k-images-idx3-ubyte.gz", "frames.zarr/0")
    selection = select(tmp_path)
    assert list(selection.files) == ["a.py"]
    kept = "frames.zarr/, mnist/t10k-images-idx3-ubyte.gz, train.npz, weights/best.safetensors"
    why = "are data or weights (keep them on the storage that every node sees)"
    assert selection.left_out() == [f"left out, since they {why}: {kept}"]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.production",
        "deploy/prod.env",
        "server.pem",
        "keys/tls.key",
        "id_rsa",
        "id_ed25519.pub",
        "credentials",
        "credentials.json",
        "aws/credentials.csv",
        ".netrc",
        ".pgpass",
        ".pypirc",
        ".git-credentials",
        "auth_token",
        "ray/auth_token.txt",
        "cluster.token",
        "secrets.yaml",
        "basic_auth.ini",
        "kubeconfig",
        ".ssh/config",
        ".aws/config",
        "service-account-lab.json",
        ".envrc",
        "service_account.json",
        "tokens.json",
        "hf_token",
        "HF_TOKEN.txt",
        "api_key.txt",
        "apiKey.json",
        "gcp-key.json",
        "password.txt",
        "db_pwd.txt",
        "github_pat",
        ".dockerconfigjson",
        ".kubeconfig",
        ".vault_pass",
        "terraform.tfstate",
        ".bash_history",
        ".cdsapirc",
        "deploy/id_work",
        "secrets/prod.yaml",
        "tokens/lab.json",
        "mylab/secrets.py",
    ],
)
def test_what_looks_like_a_secret_is_never_sent_and_is_named(tmp_path: Path, path: str) -> None:
    write(tmp_path, "a.py", path, text="canary")
    (tmp_path / ".gitignore").write_text(f"!{path}\n")  # not even when it is asked for
    selection = select(tmp_path)
    assert set(selection.files) == {".gitignore", "a.py"}
    (secret,) = selection.secrets
    assert path.startswith(secret)
    assert selection.left_out() == [f"left out, since they look like secrets (rename what the job needs): {secret}"]
    (tmp_path / ".rayignore").write_text((REPOSITORY / ".rayignore").read_text())
    assert sent_by_ray(tmp_path) == {".gitignore", ".rayignore", "a.py"}
    assert select(tmp_path).secrets == (secret,)  # and is named still


@pytest.mark.parametrize(
    "path",
    [
        "tokenizer.py",
        "tokenizer.json",
        "password_test.py",
        "mylab/secret_santa.py",
        "compass.csv",
        "monkey.txt",
        "key_frames.csv",
        "id_map.csv",
        "environment.yml",
        "env.py",
    ],
)
def test_code_whose_name_only_looks_like_a_secrets_is_sent(tmp_path: Path, path: str) -> None:
    write(tmp_path, path)
    (tmp_path / ".rayignore").write_text((REPOSITORY / ".rayignore").read_text())
    assert set(select(tmp_path).files) == {".rayignore", path} == sent_by_ray(tmp_path)


def test_a_package_of_code_is_sent_though_its_folder_looks_like_a_secrets(tmp_path: Path) -> None:
    write(tmp_path, "mylab/tokens/__init__.py", "mylab/tokens/lab.json")
    assert list(select(tmp_path).files) == ["mylab/tokens/__init__.py"]
    (tmp_path / ".rayignore").write_text((REPOSITORY / ".rayignore").read_text() + "b.py\n")
    write(tmp_path, "b.py")
    assert list(select(tmp_path).files) == [".rayignore", "mylab/tokens/__init__.py"]


def test_rays_own_command_leaves_out_what_submit_does() -> None:
    assert (REPOSITORY / ".rayignore").read_text() == rayignore()


def sent_by_ray(folder: Path) -> set[str]:
    """What `ray job submit --working-dir FOLDER` packs."""
    package = folder.with_suffix(".zip")
    _zip_files(str(folder), [], str(package), include_gitignore=False)
    with zipfile.ZipFile(package) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_ignore_files_mean_what_git_means(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a.py",
        "old/a.py",
        "notes/a.txt",
        "notes/keep.txt",
        "sub/b.py",
        "sub/old/b.py",
        "sub/tmp/c.py",
        "top.py",
        "sub/top.py",
    )
    (tmp_path / ".gitignore").write_text("# old things\nold/\nnotes/*\n!notes/keep.txt\n/top.py\n*.local\n")
    (tmp_path / "sub/.gitignore").write_text("tmp/\n!keep.local\n")
    write(tmp_path, "x.local", "sub/keep.local", "sub/y.local")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    known = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    assert list(select(tmp_path).files) == sorted(known.stdout.splitlines())
    (tmp_path / ".rayignore").write_text("sub/\nnotes/keep.txt\n")  # of git's, but not for the cluster, whatever git's files want
    assert {"sub/b.py", "notes/keep.txt"}.isdisjoint(select(tmp_path).files)


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "outside/passwords.txt", "lab/a.py")
    (tmp_path / "lab/link.txt").symlink_to(tmp_path / "outside/passwords.txt")
    (tmp_path / "lab/folder").symlink_to(tmp_path / "outside")
    selection = select(tmp_path / "lab")
    assert list(selection.files) == ["a.py"]
    assert selection.left_out() == ["left out, since they are symbolic links: folder, link.txt"]


def test_a_folder_too_large_to_send_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    for name, size in {"movie.raw": LARGEST_BYTES, "frames/train/1.png": 3 * 2**20, "frames/train/2.png": 2**20}.items():
        write(tmp_path, name, text="")
        with (tmp_path / name).open("r+b") as file:
            file.truncate(size)
    with pytest.raises(ConfigError) as caught:
        select(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds 104.0 MiB, but at most 100.0 MiB of code are sent; put data on the storage that every node sees, or"
        " name it in .gitignore or .rayignore. The largest: movie.raw (100.0 MiB), frames/train/ (4.0 MiB), a.py (1 B)"
    )
    (tmp_path / ".rayignore").write_text("*.raw\n")
    assert list(select(tmp_path).files) == [".rayignore", "a.py", "frames/train/1.png", "frames/train/2.png"]


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="there is no code in"):
        select(tmp_path)
    write(tmp_path, "a.py")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path, Path("/")):
        with pytest.raises(ConfigError, match="cd to the folder of your code first"):
            select(folder)


def test_a_name_that_is_no_utf8_is_refused_before_anything_is_packed(tmp_path: Path) -> None:
    write(tmp_path, "a.py", os.fsdecode(b"caf\xe9.py"))
    with pytest.raises(
        DataError, match=r"/caf\\xe9.py: a name that is no UTF-8 cannot be sent; rename it, or name it in .rayignore"
    ):
        select(tmp_path)
    (tmp_path / ".rayignore").write_text("caf*\n")
    assert list(select(tmp_path).files) == [".rayignore", "a.py"]


def test_a_file_that_has_gone_meanwhile_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    selection = select(tmp_path)
    (tmp_path / "a.py").unlink()
    with pytest.raises(DataError, match=r"a.py cannot be read \(No such file or directory\)"):
        pack(selection, tmp_path / "code.zip")


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, f"{name}/b.py", f"{name}/a/run.sh") if name == "one" else write(
            tmp_path, f"{name}/a/run.sh", f"{name}/b.py"
        )
        (tmp_path / name / "a/run.sh").chmod(0o700)
    one, two = (pack(select(tmp_path / name), tmp_path / f"{name}.zip") for name in ("one", "two"))
    assert one.digest == two.digest
    assert one.num_bytes == one.path.stat().st_size
    with zipfile.ZipFile(one.path) as archive:
        assert archive.namelist() == ["a/run.sh", "b.py"]
        assert [entry.external_attr >> 16 for entry in archive.infolist()] == [0o755, 0o644]
    write(tmp_path, "two/b.py", text="y")
    assert pack(select(tmp_path / "two"), tmp_path / "again.zip").digest != one.digest


def test_all_of_our_own_code_is_sent() -> None:
    tracked = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "platform", "pipelines", "searchspaces"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert tracked
    assert set(tracked) <= set(select(REPOSITORY).files)
