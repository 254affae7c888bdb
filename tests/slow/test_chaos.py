"""A short run of chaos.py; `make chaos` is the long one."""

import random

import pytest
from helpers import EXAMPLE
from slow.chaos import Chaos, check_equal, contents

OFTEN = ["train.checkpoint_seconds=0.2", "encoders.uncased.pretrain.checkpoint_seconds=0.2"]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_study_that_is_killed_again_and_again_ends_as_an_undisturbed_one(example_run, tmp_path):
    # A report that is there already must not be taken for the end of the run.
    committed = tmp_path / "reports" / "own-example" / "index.html"
    committed.parent.mkdir(parents=True)
    committed.write_text("of another machine")
    chaos = Chaos(EXAMPLE, tmp_path, OFTEN, longest=12)
    chaos.round(tmp_path, kills=4, draw=random.Random(0))
    assert chaos.killed.total() == 4 and len(chaos.killed) > 1, chaos.killed
    check_equal(contents(example_run.reports.parents[1]), contents(tmp_path))
    assert "of another machine" not in committed.read_text()
