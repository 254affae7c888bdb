"""Students of MKD: their runs, names and trainings."""

from itertools import pairwise

import pytest
from integration.stages.small import MKD, small

from mtkd.errors import UserError
from mtkd.stages import all_runs, keys, mkd, mtdnn, serving
from mtkd.stages.common import Run, count_updates

# The student "last" without an assistant, and the same behind two of them.
CHAIN = [
    "mkd.students={assisted: {kind: lstm, hidden: 8, assistant: next_to},"
    " last: {kind: lstm, hidden: 8}, next_to: {kind: lstm, hidden: 16, assistant: first},"
    " first: {kind: transformer, kept_layers: [0]}}"
]
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


def test_assistants_come_before_their_students():
    study = small(MKD, *CHAIN, "mkd.seeds=[0, 3]")
    assert [run.label for run in mkd.runs(study)] == [
        *("last-s0", "last-s3", "first-s0", "first-s3"),
        *("next_to-s0", "next_to-s3", "assisted-s0", "assisted-s3"),
    ]
    encoder, baseline = Run("01_pretrain", encoder="uncased"), mtdnn.baseline_run(study, 0)
    first, second, assisted = (
        Run(mkd.NAME, student=name, seed=3) for name in ("first", "next_to", "assisted")
    )
    assert mkd.parents(study, assisted) == [encoder, second]
    assert mkd.parents(study, second) == [encoder, first]
    assert mkd.parents(study, first) == [encoder, baseline]
    starts = small(MKD, *CHAIN, "mkd.students.assisted.embeddings=teacher")
    assert mkd.parents(starts, assisted) == [encoder, baseline, second]
    ensembles = small(MKD, *CHAIN, "mkd.teacher=ensemble")
    assert mkd.parents(ensembles, assisted) == [encoder, second]
    assert Run("03_teacher", task="rte") in mkd.parents(ensembles, first)


def test_an_assisted_student_is_trained_where_its_assistant_counts():
    study = small(MKD, *CHAIN, "mkd.layerwise=[minilm]")
    planned = mkd.trainings(study, "assisted")
    assert [one.part for one in planned] == [
        *("stl-kd/rte", "stl-kd/stsb", "mtl-kd/all", "mtl-kd-hard/all"),
        *("mtl-kd-tuned/rte", "mtl-kd-tuned/stsb"),
    ]
    both = count_updates(study, ["rte", "stsb"], study.mkd.train)
    assert mkd.steps(study, Run(mkd.NAME, student="assisted", seed=0)) == 4 * both
    kept = "mkd.students.next_to={kind: transformer, kept_layers: [0], assistant: first}"
    study = small(MKD, *CHAIN, "mkd.layerwise=[minilm]", kept)
    assert [one.part for one in mkd.trainings(study, "next_to")] == [one.part for one in planned]
    assert "minilm/all" in [one.part for one in mkd.trainings(study, "first")]


def test_settings_follow_the_assistant_and_no_other_student_s_change():
    study = small(MKD, *CHAIN)
    shorter = small(MKD, *CHAIN, "mkd.students.assisted.assistant=first")
    plain = small(MKD, *CHAIN, "mkd.students.assisted.assistant=null")
    run = Run(mkd.NAME, student="assisted", seed=0)
    settings = [mkd.depends(one, run) for one in (study, shorter, plain)]
    assert all(one != other for one, other in pairwise([*settings, settings[0]]))
    assert settings[2] == mkd.depends(plain, Run(mkd.NAME, student="last", seed=0))
    assert "assistant" not in str(mkd.depends(plain, run)["student"])
    assert [keys(study)[one] == keys(plain)[one] for one in mkd.runs(study)] == [1, 1, 1, 0]
    tuned = small(MKD, *CHAIN, "mkd.students.first.dropout=0.3")
    changed = [one.student for one in mkd.runs(study) if keys(study)[one] != keys(tuned)[one]]
    assert changed == ["first", "next_to", "assisted"]
    assert (study.mkd.direct("assisted"), study.mkd.direct("last")) == ("last", None)
    assert study.mkd.direct("next_to") is None


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
