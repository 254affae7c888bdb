"""What tests of bad inputs share: a place of their own, the command line in this process, and what a refusal is."""

import io
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest

from mtkd import cli
from mtkd.workflow import run as workflow


@pytest.fixture
def places(monkeypatch, tmp_path, tmp_path_factory):
    """A folder of the test's own to work in, that nothing of this machine reaches; no study starts, and no hub is asked."""
    for name in [name for name in cli.os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(workflow, "_snakemake", lambda *_: pytest.fail("a study was started"))
    monkeypatch.chdir(tmp_path)


class Input(io.TextIOWrapper):
    """A standard input of these bytes; without any, a terminal at which nobody answers."""

    def __init__(self, content: bytes | None):
        super().__init__(io.BytesIO(content or b""), encoding="utf-8")
        self.terminal = content is None

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: (status, printed, told)."""

    def run(arguments: list[str], stdin: bytes | None = None):
        monkeypatch.setattr(sys, "argv", ["mtkd", *arguments])
        monkeypatch.setattr(sys, "stdin", Input(stdin))
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file below with its content, and every folder, but for locks and what stands above them."""
    found = {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
    held = {
        str(above)
        for name in found
        if name.endswith(".lock")
        for above in (Path(name), *Path(name).parents)
    }
    return {name: content for name, content in found.items() if name not in held}


def put(folder: Path, files: dict) -> None:
    """Writes texts, bytes and folders (None); a function is given the path."""
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
    run, folder: Path, arguments: list[str], words: list[str], stdin: bytes | None = None
) -> None:
    before = state(folder)
    code, out, err = run(arguments, stdin)
    assert code == 2 and (not out or out.startswith("Name of the task")), (
        code,
        out,
        err,
    )  # a question is no answer
    assert "Traceback" not in err and len(err.splitlines()) == 1 and err.startswith("mtkd: "), err
    assert len(err) < 3000 and err.rstrip("\n").isprintable(), err
    missing = [word for word in words if word not in err]
    assert not missing, (missing, err)
    assert state(folder) == before


def damaged(path: Path, middle: bool = False) -> None:
    pd.DataFrame(
        {"a": ["text"] * 500, "b": ["other"] * 500, "label": ["no", "yes"] * 250}
    ).to_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(
        whole[:20] + b"\xff" * (len(whole) // 3) + whole[20 + len(whole) // 3 :]
        if middle
        else whole[: len(whole) // 2]
    )
