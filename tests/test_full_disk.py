"""A disk that is really full: one clear sentence, nothing that was finished is lost, and the run goes on once there is room."""

import hashlib
import subprocess

import pytest
from conftest import TINY, mtkd

from mtkd.config import study as studies
from mtkd.errors import UserError
from mtkd.stages import common as stages

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
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be had here: {mounted.stderr.strip()}")
    ballast = place / "ballast"

    def leave(free: int) -> None:
        ballast.unlink(missing_ok=True)
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(max(0, file.tell() - free))

    yield place, leave
    subprocess.run(
        ["umount", "--lazy", str(place)], check=True
    )  # word pieces may still be mapped into memory


def content(artifact) -> dict[str, str]:
    """What must be the same to the last bit; the other files hold seconds."""
    return {
        name: hashlib.sha256(artifact.file(name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "predictions.parquet")
    }


def told(done: subprocess.CompletedProcess) -> str:
    """The last line of a command that ended as it should; a kernel may have warned before it."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_full_disk_stops_a_training_that_goes_on_when_there_is_room(disk, tmp_path, monkeypatch):
    place, leave = disk
    study = studies.load(TINY, SMALL)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "calm"))
    wanted = content(stages.mtdnn(study, "uncased", 0.1, 0))
    monkeypatch.setenv("MTKD_WORK", str(place))
    finished = [stages.data(study), stages.pretrain(study, "uncased")]
    room = 0
    for room in range(
        0, 2_000_000, 50_000
    ):  # the first lets nothing be written, a later one a checkpoint, one the whole
        leave(room)
        try:
            stages.mtdnn(study, "uncased", 0.1, 0)
            break
        except UserError as error:
            assert "space" in str(error) and str(place) in str(error), error
            assert [stages.data(study).record, stages.pretrain(study, "uncased").record] == [
                found.record for found in finished
            ]
    assert room >= 100_000, "the disk was never full"
    assert content(stages.mtdnn(study, "uncased", 0.1, 0)) == wanted


def test_the_command_line_tells_a_full_disk_in_one_sentence(disk, tmp_path):
    place, leave = disk
    leave(20_000)
    settings = ["-p", f"study={TINY}", "-p", f"overrides={';'.join(SMALL)}"]
    done = mtkd(
        "notebook",
        "01_pretrain",
        tmp_path / "out.ipynb",
        "--log",
        tmp_path / "log",
        *settings,
        MTKD_WORK=str(place),
    )
    assert told(done).startswith(f"mtkd: No space is left on the disk while writing {place}")
    leave(0)
    done = mtkd(
        "notebook",
        "00_data",
        place / "out.ipynb",
        "--log",
        place / "logs" / "log",
        *settings,
        MTKD_WORK=str(tmp_path),
    )
    assert told(done).startswith(
        f"mtkd: No space is left on the disk while writing {place / 'out.ipynb'}"
    )
