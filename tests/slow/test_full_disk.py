"""A disk that is really full: one clear sentence, and the run continues once there is room."""

import hashlib
import os
import subprocess

import pytest
from helpers import TINY, mtkd

from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.stages import data, mtdnn, pretrain

pytestmark = pytest.mark.slow
SMALL = [
    "tasks=[rte]",
    "distil.teachers=[rte]",
    "candidates.select_on=[rte]",
    "train.checkpoint_seconds=0.01",
    "mkd=null",
]


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MB, and a function that leaves so many bytes free on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        give_up = pytest.fail if "MTKD_CI" in os.environ else pytest.skip
        give_up(f"a disk cannot be mounted here: {mounted.stderr.strip()}")
    ballast = folder / "ballast"

    def leave(free: int) -> None:
        ballast.unlink(missing_ok=True)
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(max(0, file.tell() - free))

    yield folder, leave
    # Lazy: Arrow files of the tokens may still be mapped into memory.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def content(artifact) -> dict[str, str]:
    """Hashes of what must be the same to the last bit; the other files hold seconds."""
    files = {name: artifact.file(name) for name in ("model.safetensors", "predictions.parquet")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_a_full_disk_stops_a_training_that_continues_when_there_is_room(
    disk, tmp_path, monkeypatch
):
    folder, leave = disk
    study = load(TINY, SMALL)
    run = {"encoder": "uncased", "dropout": 0.1, "seed": 0}
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "calm"))
    expected = content(mtdnn.run(study, **run))
    monkeypatch.setenv("MTKD_WORK", str(folder))

    def finished() -> list[dict]:
        return [data.run(study).record, pretrain.run(study, encoder="uncased").record]

    before, room = finished(), 0
    # With the least room nothing can be written, with more a checkpoint, at last everything.
    for room in range(0, 2_000_000, 50_000):
        leave(room)
        try:
            mtdnn.run(study, **run)
            break
        except UserError as error:
            assert "space" in str(error) and str(folder) in str(error), error
            assert finished() == before
    assert room >= 100_000, "the disk was never full"
    assert content(mtdnn.run(study, **run)) == expected


def test_the_command_line_reports_a_full_disk_in_one_sentence(disk, tmp_path):
    folder, leave = disk
    settings = [part for text in SMALL for part in ("--set", text)]

    def last_line(run: str, **folders) -> str:
        environment = {name: str(path) for name, path in folders.items()}
        done = mtkd("notebook", TINY, run, *settings, **environment)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip().splitlines()[-1]

    leave(20_000)
    line = last_line("01_pretrain.uncased", MTKD_WORK=folder, MTKD_REPORTS=tmp_path / "reports")
    assert line.startswith(f"mtkd: No space is left on the disk while writing {folder}")
    leave(0)
    line = last_line("00_data", MTKD_WORK=tmp_path / "work", MTKD_REPORTS=folder)
    assert line.startswith(f"mtkd: No space is left on the disk while writing {folder}")
