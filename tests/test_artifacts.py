"""Outputs of stages: whole or not there, made once, and checked when they are read."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors import SafetensorError

from mtkd import artifacts
from mtkd.artifacts import make, read
from mtkd.errors import UserError

INPUTS = {"stage": "test", "seed": 0}


class Build:
    """Fills a folder with a few files and counts how often it did."""

    def __init__(self, text: str = "first"):
        self.text, self.times = text, 0

    def __call__(self, out: Path) -> None:
        self.times += 1
        (out / "text.txt").write_text(self.text)
        (out / "parts").mkdir()
        (out / "parts" / "one.json").write_text('{"value": 1}')
        pd.DataFrame({"a": [1, 2]}).to_csv(out / "table.csv", index=False)
        pd.DataFrame({"a": [3, 4]}).to_parquet(out / "table.parquet")


def left(folder: Path) -> set[str]:
    """What lies in the folder, locks aside."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_built_once_and_taken_again(tmp_path):
    build = Build()
    first, second = (make(tmp_path / "out", INPUTS, build) for _ in range(2))
    assert build.times == 1
    assert first.fingerprint == second.fingerprint
    assert second.file("text.txt").read_text() == "first"
    assert second.json("parts/one.json") == {"value": 1}
    assert second.frame("table.csv").a.tolist() == [1, 2]
    assert second.frame("table.parquet").a.tolist() == [3, 4]
    assert left(tmp_path) == {"out"}


def test_built_anew_when_the_inputs_change(tmp_path):
    first = make(tmp_path / "out", INPUTS, Build())
    second = make(tmp_path / "out", INPUTS | {"seed": 1}, Build())
    assert first.fingerprint != second.fingerprint
    build = Build("segment_start")
    third = make(tmp_path / "out", INPUTS | {"seed": 2}, build)
    assert build.times == 1
    assert third.file("text.txt").read_text() == "segment_start"
    assert read(tmp_path / "out").record["inputs"] == INPUTS | {"seed": 2}


def test_files_of_the_last_output_do_not_stay(tmp_path):
    make(tmp_path / "out", INPUTS, Build())
    make(tmp_path / "out", {"stage": "other"}, lambda out: (out / "only.txt").write_text("x"))
    assert left(tmp_path / "out") == {"only.txt", "record.json"}


def test_the_state_of_a_making_stays_until_its_output_is_in_place(tmp_path):
    state = artifacts.scratch(tmp_path / "out", INPUTS)

    def killed_after_training(out: Path) -> None:
        state.mkdir()
        (out / "text.txt").write_text("almost")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", INPUTS, killed_after_training)
    assert left(tmp_path) == {state.name}
    make(tmp_path / "out", INPUTS, lambda out: (out / "text.txt").write_text(str(state.is_dir())))
    assert (tmp_path / "out" / "text.txt").read_text() == "True" and left(tmp_path) == {"out"}
    state.mkdir()  # a kill between the two
    make(tmp_path / "out", INPUTS, Build())
    assert left(tmp_path) == {"out"}
    other = artifacts.scratch(tmp_path / "out", INPUTS | {"seed": 1})
    other.mkdir()
    make(tmp_path / "out", INPUTS, Build())
    assert left(tmp_path) == {"out", other.name}, "another making's state is its own"


def test_the_order_of_inputs_and_tuples_for_lists_do_not_matter(tmp_path):
    build = Build()
    make(tmp_path / "out", {"a": (1, 2), "b": {"c": 1, "d": 2}}, build)
    make(tmp_path / "out", {"b": {"d": 2, "c": 1}, "a": [1, 2]}, build)
    assert build.times == 1


def test_the_fingerprint_follows_inputs_and_contents(tmp_path):
    given = [(INPUTS, "first"), (INPUTS, "first"), (INPUTS, "fir5t"), ({"seed": 1}, "first")]
    marks = [
        make(tmp_path / str(place), inputs, Build(text)).fingerprint
        for place, (inputs, text) in enumerate(given)
    ]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


def test_the_record_says_what_made_it(tmp_path):
    record = json.loads((make(tmp_path / "out", INPUTS, Build()).path / "record.json").read_text())
    assert record["inputs"] == INPUTS
    assert set(record["files"]) == {"text.txt", "parts/one.json", "table.csv", "table.parquet"}
    assert record["files"]["text.txt"][0] == 5
    assert set(record["made_by"]) == {"mtkd", "commit", "python", "packages", "machine"}
    assert re.fullmatch(
        r"\w+( with (amx_bf16|avx512_bf16|avx512_f|avx2))?, \d+ cores", record["made_by"]["machine"]
    )
    assert record["seconds"] >= 0


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["text.txt", "parts/one.json", "table.parquet"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_truncated_or_missing_file_is_told_and_made_again(tmp_path, name, damage):
    build = Build()
    artifact = make(tmp_path / "out", INPUTS, build)
    damage(artifact.path / name)
    with pytest.raises(
        UserError,
        match=r"out/\S+ is missing, truncated or changed .*remove the folder .*out and run the stage again",
    ):
        artifact.file(name)
    with pytest.raises(
        UserError, match=r"out is damaged .*remove that folder and run the stage again"
    ):
        read(tmp_path / "out")
    assert make(tmp_path / "out", INPUTS, build).file(name).is_file()
    assert build.times == 2


@pytest.mark.parametrize("name", ["text.txt", "parts/one.json"])
def test_a_file_changed_at_its_size_is_told_when_it_is_used(tmp_path, name):
    artifact = make(tmp_path / "out", INPUTS, Build())
    assert artifact.file(name)
    time.sleep(0.01)  # so that the time of change is another
    change(artifact.path / name)
    with pytest.raises(UserError, match="missing, truncated or changed since it was written"):
        read(tmp_path / "out").file(name)


def test_a_folder_of_files_is_checked_file_by_file(tmp_path):
    artifact = make(tmp_path / "out", INPUTS, Build())
    assert artifact.file("parts") == tmp_path / "out" / "parts"
    truncate(tmp_path / "out" / "parts" / "one.json")
    with pytest.raises(UserError, match=r"parts/one.json is missing, truncated"):
        artifact.file("parts")


def test_a_file_that_was_never_made_is_told(tmp_path):
    artifact = make(tmp_path / "out", INPUTS, Build())
    for name in ("none.txt", "part", "text"):
        with pytest.raises(UserError, match=f"holds no '{name}'"):
            artifact.file(name)


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"files": {"text.txt": 5}}'])
def test_a_broken_record_is_told_and_made_again(tmp_path, record):
    build = Build()
    make(tmp_path / "out", INPUTS, build)
    (tmp_path / "out" / "record.json").write_text(record)
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path / "out")
    make(tmp_path / "out", INPUTS, build)
    assert build.times == 2


@pytest.mark.parametrize("name", ["none", "half"])
def test_a_folder_without_a_record_is_no_output(tmp_path, name):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "text.txt").write_text("first")
    with pytest.raises(
        UserError, match=f"{name} is not a finished output of a stage .*run the stage that makes it"
    ):
        read(tmp_path / name)
    build = Build()
    make(tmp_path / name, INPUTS, build)
    assert build.times == 1


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(out: Path) -> None:
        (out / "text.txt").write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        make(tmp_path / "out", INPUTS, fail)
    assert left(tmp_path) == set()
    make(tmp_path / "out", INPUTS, Build())
    with pytest.raises(RuntimeError, match="in the middle"):
        make(tmp_path / "out", INPUTS | {"seed": 1}, fail)
    assert read(tmp_path / "out").record["inputs"] == INPUTS, (
        "the finished output goes only when the new one is whole"
    )


def process(tmp_path: Path, body: str) -> subprocess.Popen:
    """A process that makes `out` by `body`, after it wrote half of it."""
    code = f"""
import os, signal, time
from pathlib import Path
from mtkd.artifacts import make
def build(out):
    (out / "text.txt").write_text("half")
    with open({str(tmp_path / "log")!r}, "a") as log:
        print(os.getpid(), file=log, flush=True)
    {body}
Path({str(tmp_path)!r}, f"asks-{{os.getpid()}}").write_text("now")
print(make(Path({str(tmp_path / "work" / "out")!r}), {{"stage": "test"}}, build).fingerprint)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_a_process_killed_while_it_builds_leaves_nothing_that_is_taken_for_whole(tmp_path):
    running = process(tmp_path, "time.sleep(600)")
    wait_for(tmp_path / "log")
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    (leftover,) = left(tmp_path / "work")
    assert leftover.startswith(".out.") and leftover.endswith(".tmp")
    with pytest.raises(UserError, match="is not a finished output"):
        read(tmp_path / "work" / "out")
    with pytest.raises(UserError, match="is not a finished output"):
        read(tmp_path / "work" / leftover)
    build = Build()
    assert (
        make(tmp_path / "work" / "out", {"stage": "test"}, build).file("text.txt").read_text()
        == "first"
    )
    assert build.times == 1
    assert left(tmp_path / "work") == {"out"}, "the killed process's leftovers are removed"


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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_way_out(tmp_path, monkeypatch, code):
    def full(self, *_, **__):
        raise OSError(code, os.strerror(code), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(
            UserError,
            match=r"No space is left on the disk while writing .*out: .*MTKD_WORK .*finished stages are kept",
        ):
            make(tmp_path / "out", INPUTS, Build())
    assert left(tmp_path) == set()
    assert make(tmp_path / "out", INPUTS, Build()).file("text.txt")


def test_a_full_disk_under_safetensors_is_told_alike(tmp_path):
    def full(_: Path) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    with pytest.raises(UserError, match="MTKD_WORK"):
        make(tmp_path / "out", INPUTS, full)
    assert left(tmp_path) == set()


def test_a_disk_that_is_full_for_the_record_alone_leaves_no_output(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts, "write_json", full)
    with pytest.raises(UserError, match="MTKD_WORK"):
        make(tmp_path / "out", INPUTS, Build())
    assert left(tmp_path) == set()


def test_another_fault_of_the_disk_is_not_called_a_full_one(tmp_path):
    def fail(out: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        make(tmp_path / "out", INPUTS, fail)


def test_fingerprints_of_equal_values_are_equal():
    assert artifacts.fingerprint({"a": 1, "b": [1, 2]}) == artifacts.fingerprint(
        {"b": (1, 2), "a": 1}
    )
    assert artifacts.fingerprint({"a": 1}) != artifacts.fingerprint({"a": 2})
    assert artifacts.fingerprint({"a": 1}) != artifacts.fingerprint({"a": "1"})
