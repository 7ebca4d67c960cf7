"""What `pipelines submit` sends: the code of the current folder, and nothing else.

A job runs what is in the folder that it was submitted from, so the folder travels as one zip. Results, data and weights stay on
the storage that every node sees; what looks like a secret stays here, since everyone who reaches the cluster can read the zip.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from zoocast.errors import ConfigError, DataError
from zoocast.store.files import human_bytes, sha256_file
from zoocast.words import some

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["LARGEST_BYTES", "Package", "Selection", "pack", "rayignore", "select"]

LARGEST_BYTES = 100 * 2**20  # Ray keeps packages in the head's memory; code alone is far smaller
NUM_LARGEST = 10
NUM_NAMED, NUM_SECRETS_NAMED = 5, 20
IGNORE_FILES = (".gitignore", ".rayignore")
RAYIGNORE = (
    "# What `ray job submit --working-dir .` leaves here: names that hold secrets, as `pipelines submit` leaves them. Made by",
    """# python -c "from zoocast.cluster.package import rayignore; print(rayignore(), end='')" > .rayignore""",
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip, whenever they were written

# Patterns as in .gitignore. What tools leave behind:
GENERATED = """
.git/ .hg/ .svn/ .venv/ venv/ .tox/ .nox/ __pycache__/ *.py[cod] .*_cache/ .ipynb_checkpoints/ node_modules/ *.egg-info/ *.egg
/build/ /dist/ /runs/ /mlruns/ /mlartifacts/ *.log *.db *.db-* *.sqlite* *.lock .DS_Store .idea/ .vscode/
"""
# What every node reads from the common storage:
DATA = """
*.npy *.npz *.pt *.pth *.ckpt *.safetensors *.onnx *.arrow *.feather *.parquet *.h5 *.hdf5 *.nc *.zarr/ *.pkl *.pickle *.mat
*.tar *.tar.* *.tgz *.zip *.7z *.whl *.mp4 *.avi *.mkv *-ubyte *-ubyte.gz
"""
# Names that hold secrets, in lower case, since case does not count. First words: some count inside of any name, others only where
# they end it (`hf_token`, `gcp-key.json`, but not `tokenizer.json` or `key_frames.csv`).
ANYWHERE = """
secret password passwd passphrase passcode credential api?key apikey private?key privatekey access?key accesskey auth?key authkey
account?key ssh?key sshkey service?account serviceaccount oauth bearer webhook keychain keyring vault
"""
ENDINGS = "key pass pwd pat jwt login logins"
# A Python source with such a word in its name is code that a job imports, unless the word is all of its name (`secrets.py`, in
# `KEPT`). Of `id_*`, as ssh names its keys, files with an extension are tables of numbers.
WORDS = [
    *("id_*", "!id_*.*", "*token", "*tokens", "*token[!a-z]*", "*tokens[!a-z]*"),
    *(f"*{word}*" for word in ANYWHERE.split()),
    *(form.format(word) for word in ENDINGS.split() for form in ("{}", "{}.*", "*[!a-z]{}", "*[!a-z]{}.*")),
    "!*.py",
]
# Then what tools keep keys, passwords and what was typed in:
KEPT = """
.env .env.* *.env .*rc _netrc .*cfg .*cnf .pgpass .gitcookies .boto .*_history .*-history .lesshst .viminfo *.pem *.key *.p8
*.p12 *.pfx *.pkcs12 *.jks *.keystore *.kdb *.kdbx *.ppk *.gpg *.pgp *.age *.keytab *.ovpn *.tfstate *.tfstate.* *.tfvars
*.tfvars.* id_rsa* id_dsa* id_ecdsa* id_ed25519* id_*.pub kaggle.json auth.json *_auth.json basic_auth.ini cookies.* *.cookies
rclone.conf pip.conf kubeconfig kubeconfig.* .kubeconfig *.kubeconfig .dockerconfigjson .docker/ .ssh/ .aws/ .azure/ .gcloud/
.gcp/ .kube/ .gnupg/ .pip/ .ray/ .mlflow/ .huggingface/ .config/gcloud/ .config/gh/ .config/rclone/
secret.py secrets.py credential.py credentials.py password.py passwords.py passwd.py api_key.py api_keys.py apikey.py apikeys.py
"""


def rayignore() -> str:
    """The checkout's `.rayignore`, by which Ray's own command, which knows nothing of this module, leaves the same names out."""

    def any_case(found: re.Match[str]) -> str:
        return "[!A-Za-z]" if len(found[0]) > 1 else f"[{found[0].upper()}{found[0]}]"

    lines = [re.sub(r"\[!a-z\]|[a-z]", any_case, pattern) for pattern in [*WORDS, *KEPT.split()]]
    return "\n".join([*RAYIGNORE, *lines, ""])


SECRETS_FOR_RAY = frozenset(rayignore().splitlines())


@dataclasses.dataclass(frozen=True)
class Selection:
    """What of `folder` is sent, and what was left out that its owner may look for. Paths are relative, in order."""

    folder: Path
    files: dict[str, int]  # bytes by path
    secrets: tuple[str, ...]
    data: tuple[str, ...]
    links: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def left_out(self) -> list[str]:
        """A line for each kind of thing that was left out, with its reason."""
        kinds = [
            ("look like secrets (rename what the job needs)", self.secrets, NUM_SECRETS_NAMED),
            ("are data or weights (keep them on the storage that every node sees)", self.data, NUM_NAMED),
            ("are symbolic links", self.links, NUM_NAMED),
        ]
        return [f"left out, since they {why}: {some(paths, most)}" for why, paths, most in kinds if paths]


def select(folder: Path) -> Selection:
    """Choose what to send of `folder`: files that no ignore file and no list above names. Links are not followed.

    Raises:
        ConfigError: it is a home folder or `/`, or there is nothing in it, or more than `LARGEST_BYTES`.
        DataError: a file or folder of it cannot be read, or its name is no UTF-8.
    """
    folder = folder.resolve()
    if folder in (Path(os.path.expanduser("~")).resolve(), Path(folder.anchor)):
        raise ConfigError(
            "", f"submit sends the current folder, and {folder} is no project's; cd to the folder of your code first"
        )
    try:
        walk = _Walk(folder)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); name it in .rayignore to leave it here") from None
    selection = Selection(
        folder, dict(sorted(walk.files.items())), *(tuple(sorted(paths)) for paths in (walk.secrets, walk.data, walk.links))
    )
    if not selection.files:
        raise ConfigError("", f"submit sends the current folder, and there is no code in {folder}; cd to the folder of your code")
    if selection.num_bytes > LARGEST_BYTES:
        raise ConfigError(
            "",
            f"{folder} holds {human_bytes(selection.num_bytes)}, but at most {human_bytes(LARGEST_BYTES)} of code are sent;"
            " put data on the storage that every node sees, or name it in .gitignore or .rayignore."
            f" The largest: {_largest(selection.files)}",
        )
    for name in selection.files:
        if os.fsencode(name) != name.encode(errors="replace"):
            shown = os.fsencode(name).decode(errors="backslashreplace")
            raise DataError(f"{folder}/{shown}: a name that is no UTF-8 cannot be sent; rename it, or name it in .rayignore")
    return selection


@dataclasses.dataclass(frozen=True)
class Package:
    """A zip file of code, and the SHA-256 of it."""

    path: Path
    num_bytes: int
    digest: str


def pack(selection: Selection, target: Path) -> Package:
    """Write the zip file `target`: the same bytes for the same files.

    Raises:
        DataError: a file cannot be read any more.
    """
    # Of a file's mode only whether it may be run, as in git: else the digest, which tells jobs apart, would depend on the umask.
    with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        for name in selection.files:  # which are in order
            path = selection.folder / name
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            try:
                entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}); name it in .rayignore to leave it here") from None
            archive.writestr(entry, content)
    return Package(target, target.stat().st_size, sha256_file(target))


# The ignore files of one name that count in a folder, the nearest first, each with the folder that it is in.
Ignored: TypeAlias = "tuple[tuple[str, GitIgnoreSpec], ...]"


class _Walk:
    """Goes through a folder as git does: what is ignored is not entered, and the nearest ignore file has the last word."""

    def __init__(self, folder: Path) -> None:
        from pathspec import GitIgnoreSpec

        self.folder = folder
        self.files: dict[str, int] = {}
        self.secrets: list[str] = []
        self.data: list[str] = []
        self.links: list[str] = []
        self._secret, self._kept, self._generated, self._data = (
            GitIgnoreSpec.from_lines(lines) for lines in ([*WORDS, *KEPT.split()], KEPT.split(), GENERATED.split(), DATA.split())
        )
        self._enter("", ((), ()))

    def _enter(self, inside: str, above: tuple[Ignored, ...]) -> None:
        specs = tuple(
            _ignored_by(name, self.folder / inside, inside, so_far) for name, so_far in zip(IGNORE_FILES, above, strict=True)
        )
        with os.scandir(self.folder / inside) as entries:
            for entry in entries:
                path = inside + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                # Secrets first: one is named even where .gitignore hides it, and nothing below can send it. A folder with a mere
                # word in its name is entered, for it may be a Python package.
                if (self._kept if path.endswith("/") else self._secret).match_file(path.lower()):
                    self.secrets.append(path)
                # A folder that is ignored is not entered, so that no rule inside can bring back a file of it; git does the same.
                elif self._generated.match_file(path) or any(_is_ignored(path, spec) for spec in specs):
                    continue
                # A link may lead out of the folder, to a file that nobody meant to send.
                elif entry.is_symlink():
                    self.links.append(path)
                elif self._data.match_file(path):
                    self.data.append(path)
                elif path.endswith("/"):
                    self._enter(path, specs)
                elif entry.is_file():
                    self.files[path] = entry.stat().st_size


def _ignored_by(name: str, folder: Path, inside: str, above: Ignored) -> Ignored:
    from pathspec import GitIgnoreSpec

    if not (folder / name).is_file():
        return above
    lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
    # Secrets are seen to here, where a folder's Python sources may pass, as Ray cannot say it.
    own = [line for line in lines if line not in SECRETS_FOR_RAY]
    return ((inside, GitIgnoreSpec.from_lines(own)), *above)


def _is_ignored(path: str, specs: Ignored) -> bool:
    for inside, spec in specs:  # from the nearest folder upwards, and the first that has an opinion decides
        # Patterns are relative to the folder of their file. None: no pattern matches; False: a `!` pattern does.
        decided = spec.check_file(path.removeprefix(inside)).include
        if decided is not None:
            return decided
    return False


def _largest(files: dict[str, int]) -> str:
    """The largest files and folders, as far as two levels down: a hundred thousand small files are one folder to speak of."""
    sizes: Counter[str] = Counter()
    for path, size in files.items():
        parts = path.split("/")
        sizes["/".join(parts[:2]) + ("/" if len(parts) > 2 else "")] += size
    return ", ".join(f"{path} ({human_bytes(size)})" for path, size in sizes.most_common(NUM_LARGEST))
