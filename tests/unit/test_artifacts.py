"""Outputs of stages: whole or absent, made once, and checked when they are read."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mtkd import artifacts
from mtkd.artifacts import Artifact, make, pack, read, restore
from mtkd.errors import UserError

INPUTS = {"stage": "test", "seed": 0}


class Build:
    """Fills a folder with a few files and counts how often it did."""

    def __init__(self, text: str = "first"):
        self.text, self.times = text, 0

    def __call__(self, output: Path, checkpoint: Path) -> None:
        self.times += 1
        (output / "text.txt").write_text(self.text)
        (output / "parts").mkdir()
        (output / "parts" / "one.json").write_text('{"value": 1}')
        pd.DataFrame({"n": [1, 2]}).to_csv(output / "table.csv", index=False)
        pd.DataFrame({"a": [3, 4]}).to_parquet(output / "table.parquet")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def made(out) -> Artifact:
    return make(out, INPUTS, Build())


def names(folder: Path) -> set[str]:
    """Names of what lies in the folder, without locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_built_once_and_loaded_again(out):
    build = Build()
    first, second = (make(out, INPUTS, build) for _ in range(2))
    assert build.times == 1 and first.fingerprint == second.fingerprint
    assert second.file("text.txt").read_text() == "first"
    assert second.json("parts/one.json") == {"value": 1}
    assert second.frame("table.csv").n.tolist() == [1, 2]
    assert second.frame("table.parquet").a.tolist() == [3, 4]
    assert names(out.parent) == {"out"}


def test_built_anew_when_the_inputs_change(out, made):
    second = make(out, INPUTS | {"seed": 1}, lambda output, _: (output / "only").write_text("x"))
    assert made.fingerprint != second.fingerprint
    assert names(out) == {"only", "record.json"}, "files of the last output are gone"
    assert read(out).record["inputs"] == INPUTS | {"seed": 1}


def test_the_order_of_inputs_and_tuples_for_lists_do_not_matter(out):
    build = Build()
    make(out, {"a": (1, 2), "b": {"c": 1, "d": 2}}, build)
    make(out, {"b": {"d": 2, "c": 1}, "a": [1, 2]}, build)
    assert build.times == 1
    assert artifacts.fingerprint({"a": 1}) != artifacts.fingerprint({"a": "1"})


def test_the_fingerprint_follows_inputs_and_contents(tmp_path):
    given = [(INPUTS, "first"), (INPUTS, "first"), (INPUTS, "fir5t"), ({"seed": 1}, "first")]
    marks = [
        make(tmp_path / str(number), inputs, Build(text)).fingerprint
        for number, (inputs, text) in enumerate(given)
    ]
    assert marks[0] == marks[1] and len(set(marks)) == 3


def test_the_fingerprint_does_not_follow_measured_seconds(tmp_path):
    def made(value: float, seconds: float):
        def build(folder: Path, _: Path) -> None:
            frame = pd.DataFrame({"value": [value], "seconds": [seconds]})
            frame.to_csv(folder / "scores.csv", index=False)

        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return make(tmp_path / "out", INPUTS, build).fingerprint

    assert made(0.5, 1.0) == made(0.5, 2.25) != made(0.25, 1.0)


def test_the_record_says_what_made_it(made):
    record = json.loads((made.path / "record.json").read_text())
    assert record["inputs"] == INPUTS and record["seconds"] == made.seconds >= 0
    assert set(record["files"]) == {"text.txt", "parts/one.json", "table.csv", "table.parquet"}
    assert record["files"]["text.txt"][0] == 5
    assert set(record["made_by"]) == {"mtkd", "commit", "python", "packages", "machine"}
    machine = r"\w+ with [\w ]+, \d+ cores"
    assert re.fullmatch(machine, record["made_by"]["machine"])


def test_a_checkpoint_stays_until_its_output_is_in_place(out):
    checkpoints = []

    def killed_after_training(output: Path, checkpoint: Path) -> None:
        checkpoints.append(checkpoint)
        checkpoint.write_text("state")
        raise KeyboardInterrupt

    for seed in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            make(out, INPUTS | {"seed": seed}, killed_after_training)
    first, other = checkpoints
    assert re.fullmatch(r"\.checkpoint-[0-9a-f]{16}\.pt", first.name) and first.parent == out.parent
    first.with_name(f"{first.name}.part").write_text("half")  # of a kill while it was written
    state = make(out, INPUTS, lambda output, at: (output / "x").write_text(at.read_text()))
    assert state.file("x").read_text() == "state"
    assert names(out.parent) == {"out", other.name}, "another output's checkpoint stays"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    time.sleep(0.01)  # so that the modification time is another
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["text.txt", "parts/one.json", "table.parquet"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_truncated_or_missing_file_is_reported_and_made_again(out, name, damage):
    build = Build()
    artifact = make(out, INPUTS, build)
    damage(out / name)
    again = rf"remove the folder {re.escape(str(out))} and run its stage again"
    with pytest.raises(UserError, match=rf"{name} is missing, truncated or changed .*{again}"):
        artifact.file(name)
    with pytest.raises(UserError, match=rf"out is damaged .*{again}"):
        read(out)
    assert make(out, INPUTS, build).file(name).is_file()
    assert build.times == 2


@pytest.mark.parametrize("name", ["text.txt", "parts/one.json"])
def test_a_file_changed_at_its_size_is_reported_when_it_is_used(made, name):
    assert made.file(name)
    flip(made.path / name)
    with pytest.raises(UserError, match="missing, truncated or changed since it was written"):
        read(made.path).file(name)


def test_a_folder_of_files_is_checked_file_by_file(made):
    assert made.file("parts") == made.path / "parts"
    truncate(made.path / "parts" / "one.json")
    with pytest.raises(UserError, match=r"parts/one.json is missing, truncated"):
        made.file("parts")


@pytest.mark.parametrize("name", ["none.txt", "part", "text"])
def test_a_file_that_was_never_made_is_reported(made, name):
    with pytest.raises(UserError, match=f"holds no '{name}'"):
        made.file(name)


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"files": {"text.txt": 5}}'])
def test_a_broken_record_is_reported_and_made_again(out, made, record):
    (out / "record.json").write_text(record)
    with pytest.raises(UserError, match="is damaged"):
        read(out)
    build = Build()
    make(out, INPUTS, build)
    assert build.times == 1


@pytest.mark.parametrize("name", ["none", "half"])
def test_a_folder_without_a_record_is_no_output(tmp_path, name):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "text.txt").write_text("first")
    with pytest.raises(UserError, match=f"{name} is not a finished output .*run the stage that"):
        read(tmp_path / name)
    build = Build()
    make(tmp_path / name, INPUTS, build)
    assert build.times == 1


def test_a_build_that_fails_leaves_what_was_there(out):
    def fail(output: Path, checkpoint: Path) -> None:
        (output / "text.txt").write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        make(out, INPUTS, fail)
    assert names(out.parent) == set()
    make(out, INPUTS, Build())
    with pytest.raises(RuntimeError, match="in the middle"):
        make(out, INPUTS | {"seed": 1}, fail)
    assert read(out).record["inputs"] == INPUTS


def process(tmp_path: Path, body: str) -> subprocess.Popen:
    """A process that makes `out` by `body`, after it wrote half of it."""
    code = f"""
import os, time
from pathlib import Path
from mtkd.artifacts import make
def build(output, checkpoint):
    (output / "text.txt").write_text("half")
    with open({str(tmp_path / "log")!r}, "a") as log:
        print(os.getpid(), file=log, flush=True)
    {body}
Path({str(tmp_path)!r}, f"asks-{{os.getpid()}}").write_text("now")
print(make(Path({str(tmp_path / "work" / "out")!r}), {{"stage": "test"}}, build).fingerprint)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


@pytest.mark.slow
def test_a_process_killed_while_it_builds_leaves_nothing_that_is_taken_for_whole(tmp_path):
    running, out = process(tmp_path, "time.sleep(600)"), tmp_path / "work" / "out"
    wait_for(tmp_path / "log")
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    (leftover,) = names(out.parent)
    assert leftover.startswith(".out.") and leftover.endswith(".tmp")
    for path in (out, out.with_name(leftover)):
        with pytest.raises(UserError, match="is not a finished output"):
            read(path)
    build = Build()
    assert make(out, {"stage": "test"}, build).file("text.txt").read_text() == "first"
    assert build.times == 1 and names(out.parent) == {"out"}


@pytest.mark.slow
def test_a_second_process_waits_for_the_first_and_takes_its_output(tmp_path):
    body = f"while not Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.05)"
    both = [process(tmp_path, body)]
    wait_for(tmp_path / "log")
    both.append(process(tmp_path, body))
    wait_for(tmp_path / f"asks-{both[1].pid}")
    time.sleep(0.5)
    assert both[1].poll() is None, "the second does not wait"
    (tmp_path / "go").touch()
    outputs = [running.communicate(timeout=120) for running in both]
    assert [running.returncode for running in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert (tmp_path / "log").read_text().split() == [str(both[0].pid)], "built twice"


@pytest.mark.parametrize("in_record", [False, True])
def test_a_full_disk_is_explained_and_leaves_no_output(out, monkeypatch, in_record):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifacts, "write_json", full)
    message = r"No space is left on the disk while writing .*out: .*MTKD_WORK .*stages are kept"
    with pytest.raises(UserError, match=message):
        make(out, INPUTS, Build() if in_record else full)
    assert names(out.parent) == set()


def test_artifacts_packed_without_some_files_are_current_elsewhere(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("stage/a", "stage/a.parts/b"):
        made = make(here / name, INPUTS, Build())
    (here / "stage" / ".c.1.tmp").mkdir()
    (here / "stage" / ".c.1.tmp" / "record.json").write_text('{"files": {}}')
    for path in ("1.zip", "2.zip"):
        pack(here, tmp_path / path, lambda file: file.suffix == ".parquet")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    mine = make(there / "stage" / "a", INPUTS | {"seed": 1}, Build("mine"))
    assert restore(tmp_path / "1.zip", there) == [there / "stage" / "a.parts" / "b"]
    assert read(mine.path).file("text.txt").read_text() == "mine"
    build = Build()
    restored = make(there / "stage" / "a.parts" / "b", INPUTS, build)
    assert not build.times and restored.fingerprint == made.fingerprint
    assert restored.json("parts/one.json") == {"value": 1}
    with pytest.raises(UserError, match=r"table.parquet was left behind elsewhere: remove the fol"):
        restored.frame("table.parquet")
    assert names(there) == {"stage"}
    (restored.path / "text.txt").unlink()
    with pytest.raises(UserError, match="damaged"):
        read(restored.path)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_every_file_has_the_mode_that_umask_gives(tmp_path, mask):
    def build(output: Path, checkpoint: Path) -> None:
        for name in ("alone", "parts/alone"):
            (output / name).parent.mkdir(exist_ok=True)
            (output / name).touch(mode=0o600)  # as safetensors does

    before = os.umask(mask)
    try:
        artifact = make(tmp_path / "out", INPUTS, build)
    finally:
        os.umask(before)
    files = [path for path in artifact.path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


@pytest.mark.parametrize("name", ["nan", "null", "None", "NA", "inf", "true", "1e3", "2024", "007"])
def test_names_in_a_table_stay_text(tmp_path, name):
    row = {"study": name, "system": name, "task": name, "value": 1.5, "seed": None}
    pd.DataFrame([row, row]).to_csv(tmp_path / "scores.csv", index=False)
    back = artifacts.read_csv(tmp_path / "scores.csv")
    assert back[["study", "system", "task"]].to_numpy().tolist() == [[name] * 3] * 2
    assert back["value"].tolist() == [1.5, 1.5] and back["seed"].isna().all()
