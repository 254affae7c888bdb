"""A short run of tests/chaos.py; `make chaos` makes the long one."""

import pytest
from chaos import STUDY, chaos

from mtkd.config import study as studies
from mtkd.stages import common as stages
from mtkd.stages import report as summary
from mtkd.training import mlm as pretraining

CUT = [
    "tasks=[rte]",
    "encoders.uncased.pretrain.train_tokens=60000",
    "candidates={dropouts: [0.1], ensemble_size: 1, select_on: [rte]}",
    "mkd=null",
]


@pytest.mark.timeout(900)
def test_a_study_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    # A clone has the committed report, which must not be taken for the end of the work.
    committed = tmp_path / "round1" / "reports" / "chaos" / "index.html"
    committed.parent.mkdir(parents=True)
    committed.write_text("of another machine")
    told = chaos(tmp_path, kills=5, seed=0, overrides=CUT, longest=10)
    assert told["kills"] == 5 and len(told["by"]) > 1, told
    assert "of another machine" not in committed.read_text()

    # A clone that has the artifacts and no report shows them and trains nothing.
    def refuse(*_, **__):
        raise AssertionError("a finished stage ran again")

    monkeypatch.setattr(stages, "train", refuse)
    monkeypatch.setattr(pretraining, "pretrain", refuse)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "round1" / "artifacts"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "again"))
    summary.report(studies.load(STUDY, CUT))
    again, first = (
        path.joinpath("chaos", "results.csv").read_bytes()
        for path in (tmp_path / "again", tmp_path / "round1" / "reports")
    )
    assert again == first
