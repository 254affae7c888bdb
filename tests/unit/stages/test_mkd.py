"""Students of MKD: their runs, names and trainings."""

from itertools import pairwise

import pytest
from integration.stages.small import MKD, small

from mtkd.errors import UserError
from mtkd.stages import all_runs, keys, mkd, mtdnn, serving
from mtkd.stages.common import Run, count_updates

LSTM = Run(mkd.NAME, student="lstm", seed=0)


def test_systems_in_the_order_of_the_results():
    planned = mkd.trainings(small(MKD), "lstm")
    assert list(dict.fromkeys(training.system for training in planned)) == [
        "lstm",
        "mt-lstm:mtl",
        "task-kd-lstm",
        "mkd-lstm:mtl",
        "mkd-lstm:hard-0.5",
        "mt-lstm",
        "mkd-lstm",
    ]
    assert [training.part for training in planned if training.joint] == [
        "mtl-hard/all",
        "mtl-kd/all",
        "mtl-kd-hard/all",
    ]
    less = mkd.trainings(small(MKD, "mkd.mixed_hard_weight=null", "mkd.finetune=null"), "lstm")
    assert [training.part for training in less] == [
        *("stl-hard/rte", "stl-hard/stsb", "mtl-hard/all"),
        *("stl-kd/rte", "stl-kd/stsb", "mtl-kd/all"),
    ]


def test_targets_and_starts():
    planned = {training.part: training for training in mkd.trainings(small(MKD), "lstm")}
    weights = {part: training.hard_weight for part, training in planned.items()}
    assert weights["stl-hard/rte"] is None and weights["mtl-hard/all"] is None
    assert weights["stl-kd/rte"] == weights["mtl-kd/all"] == 0
    assert weights["mtl-kd-hard/all"] == 0.5 and weights["mtl-kd-tuned/rte"] is None
    assert planned["mtl-kd-tuned/rte"].start == "mtl-kd/all"
    assert planned["stl-kd/rte"].start is None


def test_layerwise_baselines_are_those_of_students_with_the_teacher_s_layers():
    study = small(MKD, "mkd.layerwise=[minilm, pkd]", "mkd.students.transformer.kept_layers=[0, 1]")
    planned = {one.part: one for one in mkd.trainings(study, "transformer")}
    ways = {part: (one.system, one.layerwise) for part, one in planned.items() if "kd" not in part}
    assert ways["minilm/all"] == ("minilm-transformer:mtl", "minilm")
    assert ways["minilm-tuned/rte"] == ("minilm-transformer", None)
    pkd, plain = planned["pkd/all"], planned["mtl-kd/all"]
    assert pkd.layerwise == "pkd" and pkd.joint and plain.layerwise is None
    assert (pkd.tasks, pkd.settings, pkd.hard_weight) == (
        *(plain.tasks, plain.settings, plain.hard_weight),
    )
    assert planned["pkd-tuned/rte"].start == "pkd/all"
    assert not [one for one in mkd.trainings(study, "lstm") if one.layerwise]


def test_layerwise_settings_are_of_the_runs_that_have_them():
    transformer = Run(mkd.NAME, student="transformer", seed=0)
    two = "mkd.students.transformer.kept_layers=[0, 1]"
    plain, minilm = small(MKD, two), small(MKD, two, "mkd.layerwise=[minilm]")
    both = small(MKD, two, "mkd.layerwise=[pkd, minilm]")
    heavy = small(MKD, two, "mkd.layerwise=[pkd, minilm]", "mkd.patient_weight=10.0")
    settings = [mkd.depends(study, transformer) for study in (plain, minilm, both, heavy)]
    assert all(one != other for one, other in pairwise(settings))
    assert mkd.depends(heavy, LSTM) == mkd.depends(plain, LSTM)


def test_parents_follow_the_teacher():
    study = small(MKD)
    baseline = mtdnn.baseline_run(study, 0)
    assert mkd.parents(study, LSTM) == [Run("01_pretrain", encoder="uncased"), baseline]
    ensembles = [Run("03_teacher", task=name) for name in ("rte", "stsb")]
    study = small(MKD, "mkd.teacher=ensemble")
    # This LSTM has the vanilla MT-DNN's embeddings.
    assert mkd.parents(study, LSTM)[1:] == [baseline, *ensembles]
    study = small(MKD, "mkd.teacher=ensemble", "mkd.students.lstm.embeddings=own", "seeds=[5]")
    assert mkd.parents(study, LSTM)[1:] == ensembles
    study = small(MKD, "mkd.teacher=ensemble", "model.encoder_dropout=0.3", "seeds=[5]")
    assert mtdnn.baseline_run(study, 0) in all_runs(study)


def test_steps():
    study = small(MKD)
    both = count_updates(study, ["rte", "stsb"], study.mkd.train)
    assert mkd.steps(study, LSTM) == 5 * both + 2 * both


def test_without_the_section_nothing_else_changes():
    study, off = small(MKD), small()
    assert [run for run in all_runs(study) if run.stage not in (mkd.NAME, serving.NAME)] == (
        all_runs(off)
    )
    before, after = keys(off), keys(study)
    changed = [run.stage for run in before if before[run] != after[run]]
    assert set(changed) <= {"11_report"}
    assert mkd.runs(off) == serving.runs(off) == []
    assert [run.label for run in mkd.runs(study)] == ["lstm-s0", "transformer-s0"]


def test_what_the_study_lacks_is_refused():
    with pytest.raises(UserError, match="no student 'gru': its students are lstm"):
        mkd.run(small(MKD), "gru", 0)
    with pytest.raises(UserError, match="Study small has no section 'mkd'"):
        mkd.run(small(), "lstm", 0)
    with pytest.raises(UserError, match="Study small has no section 'mkd'"):
        serving.run(small())
