"""Outputs of stages on disk: a folder written whole or not at all, with the record of what made it.

The record holds the inputs (settings that matter, fingerprints of the parents), the versions, and
size and SHA-256 of every file. A folder is filled under a temporary name and renamed at the end, so
that a half-written output is never taken for a whole one.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from filelock import FileLock

from mtkd.errors import UserError, explain_full_disk
from mtkd.provenance import provenance

RECORD = "record.json"
LEFT_OUT = "left_out"  # files that a restored artifact lacks (`restore`)
# Columns of names, which may look like numbers, truth values or missing ones.
NAMES = ("study", "system", "measured", "candidate", "task", "title", "a", "b")


def fingerprint(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; it is read once while its size and modification time stay."""
    status = path.stat()
    return _hash(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _hash(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A finished output of a stage."""

    path: Path
    record: dict

    @property
    def fingerprint(self) -> str:
        """Changes with the inputs and with the content of every file, but not with seconds."""
        contents = self.record.get("contents", self.record["files"])  # older records have none
        return fingerprint([self.record["inputs"], contents])

    @property
    def seconds(self) -> float:
        """Time it took to make."""
        return self.record["seconds"]

    def file(self, name: str) -> Path:
        """Return the path of a file, or folder of files, after a check of its content.

        Raises `UserError` where a file is missing, truncated or changed.
        """
        files = self.record["files"]
        names = [file for file in files if f"{file}/".startswith(f"{name}/")]
        if not names:
            raise UserError(f"{self.path} holds no '{name}': {_again(self.path)}")
        for file in names:
            path, (_, digest) = self.path / file, files[file]
            if file in self.record.get(LEFT_OUT, ()):
                raise UserError(f"{path} was left behind elsewhere: {_again(self.path)}")
            if not path.is_file() or file_hash(path) != digest:
                changed = "is missing, truncated or changed since it was written"
                raise UserError(f"{path} {changed}: {_again(self.path)}")
        return self.path / name

    def frame(self, name: str) -> pd.DataFrame:
        """Read a CSV or Parquet file."""
        path = self.file(name)
        return pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)

    def json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file that a stage or the report wrote: names are text, and empty is missing."""
    names = dict.fromkeys(NAMES, str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def _again(path: Path) -> str:
    return f"remove the folder {path} and run its stage again."


def read(path: Path) -> Artifact:
    """Return the artifact in a folder.

    Raises `UserError` where there is none, or where a file is missing or of another size, but for
    those that `restore` lacked; contents are checked when they are used (`Artifact.file`).
    """
    if not (path / RECORD).is_file():
        unfinished = f"is not a finished output of a stage (it has no {RECORD})"
        raise UserError(f"{path} {unfinished}: run the stage that makes it.")
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        left_out = record.get(LEFT_OUT, ())
        files = {name: size for name, (size, _) in record["files"].items() if name not in left_out}
        sizes = [(path / name, size) for name, size in files.items()]
        whole = all(file.stat().st_size == size for file, size in sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path} is damaged (a file is missing or truncated): {_again(path)}")
    return Artifact(path, record)


class NotMadeError(UserError):
    """An artifact is not there, or other settings made it, and nothing is to be built."""


_reading: ContextVar[bool] = ContextVar("reading", default=False)


@contextmanager
def reading() -> Iterator[None]:
    """Let `make` raise `NotMadeError` in place of building, in the block."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def make(path: Path, inputs: dict, build: Callable[[Path, Path], None]) -> Artifact:
    """Return the artifact of these inputs: the one on disk, or else built anew.

    A second process that asks for the same folder waits for the first.

    Args:
        path: of the artifact's folder.
        inputs: settings that matter and fingerprints of the parents, as JSON values.
        build: called with the folder to fill, and the path of a file that may hold the state of
            a training over an interruption; it is removed once the artifact is in place.
    """
    if _reading.get():
        if not _is_current(path, inputs):
            raise NotMadeError(f"{path} is not there, or other settings made it.")
        return read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.parent / f".checkpoint-{fingerprint(inputs)}.pt"
    with FileLock(path.parent / f".{path.name}.lock"):
        if not _is_current(path, inputs):
            started = time.perf_counter()
            with writing(path) as folder:
                build(folder, checkpoint)
                files = sorted(file for file in folder.rglob("*") if file.is_file())
                names = [file.relative_to(folder).as_posix() for file in files]
                record = {
                    "inputs": inputs,
                    "files": dict(zip(names, map(_size_and_hash, files), strict=True)),
                    "contents": fingerprint([names, [*map(_content, files)]]),
                    "seconds": round(time.perf_counter() - started, 3),
                    "made_by": provenance(),
                }
                write_json(folder / RECORD, record)
        for leftover in path.parent.glob(f"{checkpoint.name}*"):
            leftover.unlink()
        return read(path)


def _size_and_hash(path: Path) -> tuple[int, str]:
    return path.stat().st_size, file_hash(path)


def _content(path: Path) -> str:
    """Return the hash of a file, of a CSV file without the column of measured seconds."""
    if path.suffix != ".csv":
        return file_hash(path)
    frame = read_csv(path).drop(columns="seconds", errors="ignore")
    return fingerprint(frame.to_csv(index=False))


def _is_current(path: Path, inputs: dict) -> bool:
    try:
        return fingerprint(read(path).record.get("inputs")) == fingerprint(inputs)
    except UserError:
        return False


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary folder that replaces `path` once the block ends without an error."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explain_full_disk(path, "MTKD_WORK"):
            folder.mkdir(parents=True)
            yield folder
            for part in (*folder.rglob("*"), folder):
                if part.is_file():  # safetensors writes files that nobody else may read
                    part.chmod(folder.stat().st_mode & 0o666)
                sync(part)
            shutil.rmtree(path, ignore_errors=True)
            folder.rename(path)
            sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pack(work: Path, path: Path, left_out: Callable[[Path], bool]) -> None:
    """Write a zip of the finished artifacts below a folder, but for files that are left out.

    The same artifacts give the same bytes.
    """
    with zipfile.ZipFile(path, "w") as packed:
        for record in sorted(work.rglob(RECORD)):
            folder = record.parent
            if any(part.startswith(".") for part in folder.relative_to(work).parts):
                continue  # unfinished
            files = json.loads(record.read_text(encoding="utf-8"))["files"]
            for file in (record, *(folder / name for name in files)):
                if file.is_file() and not left_out(file):
                    about = zipfile.ZipInfo(file.relative_to(work).as_posix())
                    packed.writestr(about, file.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def restore(path: Path | BinaryIO, work: Path) -> list[Path]:
    """Unpack `pack`'s zip, but for artifacts that are there; return the folders of the others.

    What was left out is missed once it is read.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restored.", dir=work) as scratch:
        with zipfile.ZipFile(path) as packed:
            packed.extractall(scratch)
        folders = [one.parent for one in sorted(Path(scratch).rglob(RECORD))]
        restored = []
        for folder in folders:
            target = work / folder.relative_to(scratch)
            if (target / RECORD).exists():
                continue
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            missing = [name for name in record["files"] if not (folder / name).is_file()]
            write_json(folder / RECORD, record | {LEFT_OUT: missing})
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, target, dirs_exist_ok=True)
            restored.append(target)
    return restored


def sync(path: Path) -> None:
    """Flush a file or folder to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; what JSON does not know is written as text."""
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
