"""What tests of bad inputs share: a folder of their own, the command line in this process."""

import io
import os
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest

from mtkd import cli
from mtkd.workflow import run as workflow


@pytest.fixture
def isolated(monkeypatch, tmp_path, tmp_path_factory):
    """Run in an empty folder without this machine's settings; no study starts, no hub is asked."""
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(workflow, "_snakemake", lambda *_: pytest.fail("a study was started"))
    monkeypatch.chdir(tmp_path)


class Input(io.TextIOWrapper):
    """A standard input of these bytes; None is a terminal at which nobody answers."""

    def __init__(self, content: bytes | None):
        super().__init__(io.BytesIO(content or b""), encoding="utf-8")
        self.terminal = content is None

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs a command line in this process: (status, stdout, stderr)."""

    def run(arguments: list[str], stdin: bytes | None = None):
        monkeypatch.setattr(sys, "argv", ["mtkd", *arguments])
        monkeypatch.setattr(sys, "stdin", Input(stdin))
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


def state(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file below, and every folder, but for locks and their parents."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    content = {name: path.read_bytes() if path.is_file() else None for name, path in paths.items()}
    locks = [Path(name) for name in content if name.endswith(".lock")]
    ignored = {str(path) for lock in locks for path in (lock, *lock.parents)}
    return {name: content[name] for name in content if name not in ignored}


def put(folder: Path, files: dict) -> None:
    """Write texts, bytes and folders (None); a function is given the path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def refused(
    run, folder: Path, arguments: list[str], parts: list[str], stdin: bytes | None = None
) -> None:
    """Assert that a command is refused in one line with these parts, and writes nothing."""
    before = state(folder)
    code, out, err = run(arguments, stdin)
    assert code == 2 and (not out or arguments[0] == "new"), (code, out, err)
    assert "Traceback" not in err and len(err.splitlines()) == 1 and err.startswith("mtkd: "), err
    assert len(err) < 3000 and err.rstrip("\n").isprintable(), err
    missing = [part for part in parts if part not in err]
    assert not missing, (missing, err)
    assert state(folder) == before


def damaged(path: Path, middle: bool = False) -> None:
    """Write half a Parquet file, or one without its middle."""
    texts = {"a": ["text"] * 500, "b": ["other"] * 500, "label": ["no", "yes"] * 250}
    pd.DataFrame(texts).to_parquet(path)
    whole = path.read_bytes()
    third = len(whole) // 3
    gap = whole[:20] + b"\xff" * third + whole[20 + third :]
    path.write_bytes(gap if middle else whole[: len(whole) // 2])
