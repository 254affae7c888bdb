"""Fractions of SNLI and the updates on them."""

import itertools

import numpy as np
import pytest
from integration.stages.small import ADAPTATION, small

from mtkd.errors import UserError
from mtkd.stages import adaptation
from mtkd.stages.common import Run


def test_a_fraction_is_within_every_larger_one_and_another_seed_draws_others():
    parts = [adaptation.subset(1000, fraction, 3) for fraction in (0.0001, 0.01, 0.1, 1.0)]
    assert [len(part) for part in parts] == [1, 10, 100, 1000]
    for less, more in itertools.pairwise(parts):
        assert set(less) < set(more)
    assert (parts[-1] == np.arange(1000)).all() and (np.diff(parts[2]) > 0).all()
    assert set(parts[1]) != set(adaptation.subset(1000, 0.01, 4))


def test_small_fractions_have_as_many_updates_as_the_study_wants():
    study = small(
        ADAPTATION, "adaptation.train={epochs: 2, batch_size: 8}", "adaptation.min_updates=20"
    )
    epochs = {size: adaptation.tuning(study, size).epochs for size in (1, 8, 9, 80, 81, 1000)}
    assert epochs == {1: 20, 8: 20, 9: 10, 80: 2, 81: 2, 1000: 2}
    settings = adaptation.tuning(study, 9)
    assert settings.batch_size == 8 and not settings.score_every_epoch
    other = small(ADAPTATION, "finetune.learning_rate=0.5")
    assert adaptation.tuning(other, 9).learning_rate == 0.5
    steps = [adaptation.steps(study, run) for run in adaptation.runs(study)]
    assert steps == [20 + 2 * 10 + 2 * 13] * 3  # 1, 10 and 100 examples by three systems


def test_runs_and_what_they_read():
    study = small(ADAPTATION, "seeds=[0, 1]", "adaptation.seeds=[1]")
    assert [run.label for run in adaptation.runs(study)] == ["bert-s1", "mt-dnn-s1", "mt-dnn-kd-s1"]
    parents = [
        [one.name for one in adaptation.parents(study, run)] for run in adaptation.runs(study)
    ]
    encoder = "01_pretrain.uncased"
    starts = [[], ["02_mtdnn.uncased-0.1-s1"], ["04_student.s1"]]
    assert parents == [[encoder, *start] for start in starts]
    assert adaptation.runs(small()) == []


def test_what_is_not_in_the_study_is_refused():
    with pytest.raises(UserError, match="Study small has no section 'adaptation'"):
        adaptation.run(small(), "bert", 0)
    with pytest.raises(UserError, match="no system 'mkd': its systems are bert, mt-dnn, mt-dnn-kd"):
        adaptation.parents(small(ADAPTATION), Run(adaptation.NAME, system="mkd", seed=0))
