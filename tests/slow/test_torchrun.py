"""`mtkd stage` under torchrun: two processes share the training of a stage."""

import json
import os
import subprocess
import sys

import pytest
from helpers import TINY, mtkd

pytestmark = pytest.mark.slow
RUN = "02_mtdnn.uncased-0.1-s0"
OVERRIDES = [
    "train.num_processes=2",
    "train.epochs=1",
    "tasks=[rte,stsb,mnli]",
    "distil.teachers=[mnli]",
    "data.scale=0.02",
]


def test_two_processes_make_one_artifact_and_a_single_one_is_refused(tmp_path):
    environment = {"MTKD_WORK": str(tmp_path)}
    stage = ["stage", str(TINY), RUN, *(part for one in OVERRIDES for part in ("--set", one))]
    alone = mtkd(*stage, **environment)
    assert alone.returncode == 2
    assert "train.num_processes is 2" in alone.stderr and "torchrun" in alone.stderr

    main = [sys.executable, "-c", "from mtkd.cli import main; main()"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", "--no-python", *main, *stage]
    options = {"capture_output": True, "text": True, "env": os.environ | environment}
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tiny" / "02_mtdnn" / "uncased-0.1-s0"
    record = json.loads((folder / "record.json").read_text())
    assert record["inputs"]["depends"]["train"]["num_processes"] == 2
    assert (folder / "model.safetensors").is_file()
