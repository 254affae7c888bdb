"""Outputs of stages on disk: a folder written whole or not at all, with the record of what made it.

An artifact is a folder with a `record.json`. The record holds the settings that mattered, the fingerprints of the
parents, the code's version, and size and SHA-256 of every file. The folder is filled under a temporary name and renamed
at the end, so a half-written output is never taken for a whole one.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from mtkd import __version__
from mtkd.errors import UserError, full_disk_told

RECORD = "record.json"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
)


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file; read once as long as its size and time of change stay the same."""
    status = path.stat()
    return _hash(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _hash(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A finished output of a stage."""

    path: Path
    record: dict

    @property
    def fingerprint(self) -> str:
        """Of the inputs and of every file: it changes when either does."""
        return fingerprint([self.record["inputs"], self.record["files"]])

    @property
    def seconds(self) -> float:
        return self.record["seconds"]

    def file(self, name: str) -> Path:
        """Path of one file (or folder) of the artifact, its content checked first.

        Raises `UserError` where a file is missing, truncated or changed.
        """
        names = [
            known for known in self.record["files"] if known == name or known.startswith(f"{name}/")
        ]
        if not names:
            raise UserError(
                f"{self.path} holds no '{name}': remove that folder and run the stage again."
            )
        for known in names:
            path = self.path / known
            size, digest = self.record["files"][known]
            if not path.is_file() or path.stat().st_size != size or file_hash(path) != digest:
                raise UserError(
                    f"{path} is missing, truncated or changed since it was written: "
                    f"remove the folder {self.path} and run the stage again."
                )
        return self.path / name

    def frame(self, name: str) -> pd.DataFrame:
        """A CSV or Parquet file of the artifact as a table."""
        path = self.file(name)
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)

    def json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def whole(self) -> bool:
        """Whether every file is there with the recorded size (contents are checked as they are used)."""
        sizes = ((self.path / name, size) for name, (size, _) in self.record["files"].items())
        return all(path.is_file() and path.stat().st_size == size for path, size in sizes)


def read(path: Path) -> Artifact:
    """The artifact in a folder; `UserError` where there is none, or a broken one."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        artifact = Artifact(path, record)
        whole = artifact.whole()
    except FileNotFoundError:
        raise UserError(
            f"{path} is not a finished output of a stage (it has no {RECORD}): run the stage that makes it."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(
            f"{path} is damaged (a file is missing or truncated): remove that folder and run the stage again."
        )
    return artifact


def make(path: Path, inputs: dict, build: Callable[[Path], None]) -> Artifact:
    """The artifact of these inputs: the one on disk where it is whole and was made from them, otherwise built anew.

    `build` fills the folder it is given. `inputs` holds the settings and the parents' fingerprints. A second process
    that asks for the same folder waits for the first. The state in `scratch` goes once the artifact is in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        if _current(path, inputs) is None:
            started = time.perf_counter()
            with writing(path) as folder:
                build(folder)
                record = {
                    "inputs": inputs,
                    "files": {
                        str(file.relative_to(folder)): [file.stat().st_size, file_hash(file)]
                        for file in _files(folder)
                    },
                    "seconds": round(time.perf_counter() - started, 3),
                    "made_by": provenance(),
                }
                write_json(folder / RECORD, record)
        shutil.rmtree(scratch(path, inputs), ignore_errors=True)
        return read(path)


def scratch(path: Path, inputs: dict) -> Path:
    """Where the making of an artifact keeps its state over an interruption; named by its inputs, so that no other's is taken."""
    return path.parent / f".checkpoint-{fingerprint(inputs)}"


def _current(path: Path, inputs: dict) -> Artifact | None:
    try:
        artifact = read(path)
    except UserError:
        return None
    same = fingerprint(artifact.record.get("inputs")) == fingerprint(inputs)
    return artifact if same else None


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` once the block ends without an error."""
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for leftover in path.parent.glob(
        f".{path.name}.*.tmp"
    ):  # of a process that was killed; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with full_disk_told(path, "MTKD_WORK"):
            folder.mkdir(parents=True)
            yield folder
            for part in (*folder.rglob("*"), folder):
                sync(part)
            shutil.rmtree(path, ignore_errors=True)
            folder.rename(path)
            sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Has a file's content, or a folder's list of names, on the disk itself before it returns: a restart of the machine keeps it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")


@cache
def provenance() -> dict:
    """What made an artifact: version, commit, package versions and machine."""
    return {
        "mtkd": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "machine": _machine(),
    }


def _machine() -> str:
    """Architecture, cores, and the widest of the units that a product's rounding depends on."""
    import torch

    has = torch.cpu.get_capabilities()
    units = next(
        (
            f" with {unit}"
            for unit in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")
            if has.get(unit)
        ),
        "",
    )
    return f"{platform.machine()}{units}, {os.cpu_count()} cores"


def _commit() -> str:
    source = Path(__file__).resolve().parent
    git = ["git", "-C", str(source)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changed.strip() else commit
