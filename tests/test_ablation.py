"""The levers on distillation: each loss by hand, annealing and its resumption, and whose word reaches which example."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SMALL, levers_of
from test_training import FAST, made, model_of, same

from mtkd import tasks
from mtkd.artifacts import fingerprint, read
from mtkd.config import study as studies
from mtkd.config.distillation import Distil
from mtkd.data import snli as transfer
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.report.sections.ablation import words
from mtkd.stages import ablation
from mtkd.stages import common as stages
from mtkd.stages import ensemble as voices
from mtkd.stages import inputs as encoders
from mtkd.training import checkpoint as checkpoints
from mtkd.training.loop import train
from mtkd.training.losses import hard_weight, soft_loss, task_loss
from mtkd.training.soft_targets import read_soft_targets
from mtkd.workflow import jobs as plan

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
RTE, STSB = tasks.get("rte"), tasks.get("stsb")
# Row 1: probabilities 1/4, 3/4; the teacher says 1/2, 1/2. Row 2: 2/3, 1/3; the teacher says 9/10, 1/10. Both labels are 1.
LOGITS = torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 1])
SOFT = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
EQ2 = 0.693147  # (ln(4/3) + ln 3) / 2
EQ4 = 0.655884  # (0.836988 + 0.474780) / 2
KL = 0.146769  # row 1: ln(2/sqrt 3) = 0.143841; row 2: 0.9 ln(0.9 * 3/2) + 0.1 ln(0.1 * 3) = 0.149696


def soft_of(found, task: tasks.Task, **how):
    return read_soft_targets(found.file("soft_targets.parquet"), task, **how)


def test_the_divergence_by_hand_has_the_gradient_of_eq_4():
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == pytest.approx(KL, abs=1e-6)
    entropy = -(SOFT * SOFT.log()).sum(1).mean().item()
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == pytest.approx(EQ4 - entropy, abs=1e-6)
    for temperature in (1.0, 3.0):
        slopes = []
        for kind in ("kl", "cross-entropy"):
            at = LOGITS.clone().requires_grad_()
            slopes += torch.autograd.grad(soft_loss(RTE, at, SOFT, temperature, kind), at)
        torch.testing.assert_close(*slopes)


def test_logits_by_hand():
    teacher = torch.tensor([[1.0, math.log(3)], [math.log(2), 2.0]], dtype=torch.float64)
    assert soft_loss(RTE, LOGITS, teacher, kind="logits").item() == pytest.approx(
        (1 + 0 + 0 + 4) / 4
    )
    mixed = task_loss(RTE, LOGITS, LABELS, teacher, Distil(hard_weight=0.2, loss="logits"))
    assert mixed.item() == pytest.approx(0.2 * EQ2 + 0.8 * 1.25, abs=1e-6)


def test_a_tasks_own_weight():
    distil = Distil(hard_weight=0.5, hard_weight_of={"rte": 0.25})
    assert task_loss(RTE, LOGITS, LABELS, SOFT, distil).item() == pytest.approx(
        0.25 * EQ2 + 0.75 * EQ4, abs=1e-6
    )
    assert hard_weight(tasks.get("mnli"), distil, 0.9) == 0.5


def test_annealing_goes_from_soft_targets_to_hard_ones():
    distil = Distil(annealing=True)
    for done in (0.0, 0.3, 1.0):
        assert task_loss(RTE, LOGITS, LABELS, SOFT, distil, done).item() == pytest.approx(
            done * EQ2 + (1 - done) * EQ4, abs=1e-6
        )


def test_annealing_is_at_0_in_the_first_update_and_at_1_in_the_last(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "mtkd.training.loop.task_loss", lambda *given: seen.append(given[5]) or task_loss(*given)
    )
    sets = {"mnli": made(tasks.get("mnli"), 40, soft_targets=True), "rte": made(RTE, 16)}
    train(
        model_of(["mnli", "rte"]),
        sets,
        FAST,
        seed=0,
        checkpoint=tmp_path,
        distil=Distil(annealing=True),
    )
    assert len(seen) == 2 * (5 + 2)
    np.testing.assert_allclose(seen, np.arange(14) / 13)


def test_a_resumed_training_with_annealing_ends_with_the_same_bits(tmp_path, monkeypatch):
    def run(place):
        model = model_of(["mnli", "rte"], dropout=0.1)
        settings = FAST.model_copy(update={"checkpoint_seconds": 1e-9})
        sets = {"mnli": made(tasks.get("mnli"), 40, soft_targets=True), "rte": made(RTE, 16)}
        train(
            model,
            sets,
            settings,
            seed=0,
            checkpoint=tmp_path / place,
            distil=Distil(annealing=True),
        )
        return model

    undisturbed, real, saved = run("a"), checkpoints.save, []

    def killed(*given, **named):
        real(*given, **named)
        saved.append(named["position"]["done"])
        if len(saved) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run("b")
    assert 7 < saved[-1] < 14, "the second epoch has begun"
    monkeypatch.undo()
    assert same(undisturbed, run("b"))


def test_an_example_without_a_label_has_soft_targets_alone():
    distil, known = Distil(hard_weight=0.25), torch.tensor([True, False])
    mixed = task_loss(RTE, LOGITS, torch.tensor([1, -1]), SOFT, distil, 0.0, known)
    first = 0.25 * math.log(4 / 3) + 0.75 * 0.836988
    assert mixed.item() == pytest.approx((first + 0.474780) / 2, abs=1e-6)
    none = task_loss(
        RTE, LOGITS, torch.tensor([-1, -1]), SOFT, distil, 0.0, torch.tensor([False, False])
    )
    assert none.item() == pytest.approx(EQ4, abs=1e-6)
    assert task_loss(
        RTE, LOGITS, LABELS, SOFT, distil, 0.0, torch.tensor([True, True])
    ) == task_loss(RTE, LOGITS, LABELS, SOFT, distil)
    scores, told = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.5], [4.0]])
    mixed = task_loss(STSB, scores, torch.tensor([2.0, math.nan]), told, distil, 0.0, known)
    assert mixed.item() == pytest.approx((0.25 * 1 + 0.75 * 0.25 + 1) / 2)


def test_batches_tell_which_labels_there_are():
    for task, unknown in ((RTE, -1), (STSB, math.nan)):
        found = made(task, 6)
        labels = found.labels.copy()
        labels[[1, 4]] = unknown
        split = found._split.remove_columns("label").add_column("label", labels)
        batch = type(found)(task, split, "made").batch(np.arange(6))
        assert batch.label_mask.tolist() == [True, False, True, True, False, True]
        assert found.batch(np.arange(6)).known is None


def test_settings_of_before_have_the_fingerprints_of_before():
    assert Distil().model_dump() == {
        "teachers": ["mnli", "qqp", "rte", "qnli"],
        "hard_weight": 0.5,
        "temperature": 1.0,
    }
    assert fingerprint(Distil().model_dump()) == "385d9db4f249797a"
    assert set(Distil(loss="kl", annealing=True).model_dump()) > {"loss", "annealing"}


def test_settings_that_contradict_each_other_are_refused():
    for override, said in {
        "distil={loss: logits, temperature: 2}": "distil: temperature: logits are matched as they are",
        "distil={annealing: true, hard_weight_of: {rte: 0.2}}": "annealing sets the weight of every task",
        "distil.hard_weight_of={cola: 0.2}": "distil.hard_weight_of: cola has no teacher",
        "distil.hard_weight_of={nli: 0.2}": "distil.hard_weight_of: unknown task",
        "distil.loss=mse": "distil.loss",
        "distil.unlabelled={left_out_train: 10}": "distil.unlabelled.left_out_train: nothing of the train sets is left out: set data.max_train",
        "distil.unlabelled={rests: 10}": "unknown field 'distil.unlabelled.rests'; known there: transfer, rest, tasks, updates",
    }.items():
        with pytest.raises(UserError, match=said.replace(".", r"\.")):
            studies.load(TINY, ["ablation=null", override])


def test_a_variant_that_is_null_is_left_out():
    whole, less = (
        studies.load("compared"),
        studies.load("compared", ["adaptation=null", "ablation.variants.snli=null"]),
    )
    assert whole.ablation.variants.keys() - less.ablation.variants.keys() == {"snli"}
    assert transfer.wanted(whole).keys() == {
        "adaptation",
        "ablation.variants.snli",
    } and not transfer.wanted(less)


def test_variants_that_cannot_be_are_refused():
    for variant, said in {
        "{}": "it changes nothing",
        "{epochs: 0}": "epochs: input should be greater than or equal to 1",
        "{source: ensemble}": "x: it changes nothing: the study has no distil.unlabelled",
        "{folds: 3}": "source: cross_fit and the field folds go together",
        "{source: cross_fit, folds: 1}": "folds: input should be greater than or equal to 2",
        "{source: self_distillation, generations: 3}": "generations",
        "{source: self_distillation, generations: 1, ensemble_size: 1}": "a model like the student has no members",
        "{source: unlabelled, unlabelled: {extra_updates: true}}": "there is no text",
        "{source: unlabelled, unlabelled: {left_out_train: 10}}": "x.unlabelled.left_out_train: nothing of the train sets is left out: set data.max_train",
        "{ensemble_size: 5}": r"ablation.variants.x.ensemble_size: 5 is more than the candidates there are \(4\)",
        "{loss: logits, temperature: 2}": "ablation.variants.x: temperature: logits are matched as they are",
        "{hard_weight_of: {cola: 0.1}}": "x.hard_weight_of: cola has no teacher",
        "{source: self_distillation, generations: 1, teachers: [rte]}": "teachers: with source: self_distillation they are those of all tasks: leave it out",
        "{source: cross_fit, folds: 2, teachers: [rte]}": "teachers: with source: cross_fit they are those of distil.teachers: leave it out",
        "{teachers: [wnli]}": r"ablation.variants.x.teachers: wnli is not trained in this study \(tasks: ",
        "{teachers: [rte, rte]}": "ablation.variants.x.teachers: a value stands twice",
        "{tempreature: 2}": "unknown field 'ablation.variants.x.tempreature'; known there: hard_weight, hard_weight_of, temperature",
    }.items():
        with pytest.raises(UserError, match=said):
            studies.load(TINY, f"ablation={{variants: {{x: {variant}}}}}")
    for override, said in {
        "ablation={variants: {mtl: {ensemble_size: 1}}}": "'mtl' has a meaning of its own",
        "ablation={variants: {Loud: {ensemble_size: 1}}}": "should match pattern",
        "ablation={variants: {x: {ensemble_size: 1, control: x}}}": "x.control: 'x' is not another variant: name one of them",
        "ablation={variants: {x: {ensemble_size: 1, control: z}, y: {ensemble_size: 2}}}": "x.control: 'z' is not another variant: name one of y",
        "ablation={variants: {x: {control: y}, y: {ensemble_size: 2}}}": "it changes nothing",
        "ablation.seeds=[7]": r"ablation.seeds: 7 is not one of seeds \(0, 1\)",
    }.items():
        with pytest.raises(UserError, match=said):
            studies.load(TINY, override)
    assert studies.load(
        TINY,
        "ablation={variants: {x: {source: self_distillation, generations: 1, hard_weight_of: {cola: 0.1}}}}",
    )
    with pytest.raises(UserError, match="compares no ways to distil"):
        plan.variants(studies.load(TINY, "ablation=null"))
    with pytest.raises(
        UserError, match="no variant 'y' in study tiny: its variants are annealing, keep-1"
    ):
        ablation.ablation(studies.load(TINY), "y", 0)


def test_a_variant_is_the_student_of_its_settings(work):
    study = levers_of(
        same={"hard_weight": 0.5},
        loud={"hard_weight": 1.0},
        kl={"loss": "kl"},
        logits={"loss": "logits"},
    )
    plain, found = (
        stages.student(study, 0),
        {name: ablation.ablation(study, name, 0) for name in study.ablation.variants},
    )
    assert found["same"].frame("predictions.parquet").equals(plain.frame("predictions.parquet"))
    outputs = {
        name: np.concatenate(list(one.frame("predictions.parquet").outputs))
        for name, one in found.items()
    }
    np.testing.assert_allclose(
        outputs["kl"], outputs["same"], atol=3e-5
    )  # the gradient is the same
    assert (
        np.abs(outputs["logits"] - outputs["same"]).max()
        > 1e-4
        < np.abs(outputs["loud"] - outputs["same"]).max()
    )
    scores = found["kl"].frame("scores.csv")
    assert (
        set(scores.system) == {"mt-dnn-kd:kl"}
        and set(scores.task) == {"rte", "stsb", "mrpc"}
        and set(scores.seed) == {0}
    )
    vanilla = stages.mtdnn(study, "uncased", 0.1, 0)
    # Hard targets alone: the same training as without a teacher.
    assert found["loud"].frame("predictions.parquet").equals(vanilla.frame("predictions.parquet"))


def test_longer_training_is_the_student_s_alone(work):
    study = levers_of(long={"epochs": 2, "hard_weight": 1.0})
    found, plain = ablation.ablation(study, "long", 0), stages.student(study, 0)
    assert set(found.frame("curve.csv").epoch) == {1, 2} and set(
        plain.frame("curve.csv").epoch
    ) == {1}
    assert found.record["inputs"]["teachers"] == plain.record["inputs"]["teachers"]
    twice = study.model_copy(
        update={"train": study.train.model_copy(update={"epochs": 2}), "name": "twice"}
    )
    vanilla = stages.mtdnn(twice, "uncased", 0.1, 0)
    assert found.frame("predictions.parquet").equals(vanilla.frame("predictions.parquet"))
    steps = {job.name: job.steps for job in plan.jobs(study)}
    assert steps["06_ablation.long-s0"] == 2 * steps["04_student.s0"]


def test_members_start_from_a_new_head_or_from_their_own(work):
    answers = {}
    for fresh in ("true", "false"):
        study = studies.load(
            TINY, [*SMALL, "finetune.learning_rate=1e-12", f"candidates.new_head={fresh}"]
        )
        row, _, member = stages.members_of(study, "rte")[0]
        parent = stages.mtdnn(study, row.encoder, row.dropout, study.candidates.seed).frame(
            "predictions.parquet"
        )
        answers[fresh] = [
            np.stack(frame[frame.task == "rte"].outputs)
            for frame in (member.frame("predictions.parquet"), parent)
        ]
    np.testing.assert_allclose(*answers["false"], atol=1e-5)
    assert abs(np.subtract(*answers["true"])).max() > 1e-2


def test_ensembles_of_other_sizes(work):
    study = levers_of(keep_1={"ensemble_size": 1}, keep_2={"ensemble_size": 2})
    task, best = tasks.get("rte"), stages.selection(study).candidate[0]
    assert ablation.sized(study, 2, "rte").path == stages.teacher(study, "rte").path
    targets = soft_of(ablation.sized(study, 1, "rte"), task, members=True)
    both = soft_of(stages.teacher(study, "rte"), task, members=True)
    assert targets.names == [best] == both.names[:1]
    np.testing.assert_array_equal(targets.soft, both.members[0])
    rows = ablation.scores(study)
    ensembles = rows[rows.system.str.startswith("mt-dnn-ensemble")]
    assert set(ensembles.system) == {"mt-dnn-ensemble:keep-1"} and set(ensembles.task) == {
        "rte",
        "stsb",
        "mrpc",
    }
    assert set(rows.system) == {"mt-dnn-kd:keep-1", "mt-dnn-kd:keep-2", "mt-dnn-ensemble:keep-1"}
    sized = [ablation.sized(study, 1, name).path for name in ("rte", "stsb", "mrpc")]
    assert len(ablation.students(study)) == 2 * 2 and set(sized) <= {
        found.path for found in ablation.sources(study)
    }
    assert not ablation.ensembles(levers_of(keep_2={"ensemble_size": 2})), (
        "none but the study's own is asked for"
    )


def test_teachers_of_more_tasks(work):
    every = ["rte", "stsb", "mrpc"]
    study = levers_of(every={"teachers": every}, one={"teachers": ["mrpc"], "ensemble_size": 1})
    own, student = stages.teacher(study, "mrpc"), ablation.ablation(study, "every", 0)
    assert "soft_targets.parquet" not in own.record["files"], (
        "in the study itself MRPC has no teacher"
    )
    extra = [one for one in ablation.sources(study) if one.path.parent.name == "soft-keep-2"]
    assert [one.path.name for one in extra] == ["mrpc"]
    assert soft_of(extra[0], tasks.get("mrpc"), members=True).soft.shape == (40, 2)
    assert list(student.record["inputs"]["teachers"]) == every
    assert list(ablation.ablation(study, "one", 0).record["inputs"]["teachers"]) == ["mrpc"]
    assert stages.teacher(study, "mrpc").fingerprint == own.fingerprint
    assert words(study.ablation.variants["every"]) == "teachers of RTE, STS-B, MRPC"


def test_no_cross_fitted_teacher_scores_what_it_was_trained_on(work, monkeypatch):
    study, seen, scored = levers_of(folds={"source": "cross_fit", "folds": 3}), {}, {}
    fit, predict = stages.fit, voices.predict

    def watched_fit(model, train_sets, dev_sets, test_sets, settings, seed, out, *rest, **named):
        place = out.parent if out.parent.name == "mtdnn" else out.parent.parent
        seen.setdefault(place.parts[-2], []).append(
            {name: set(found.idx.tolist()) for name, found in train_sets.items()}
        )
        fit(model, train_sets, dev_sets, test_sets, settings, seed, out, *rest, **named)

    def watched_load(self, file, *given, **named):
        self.came_from = file.parts
        return load(self, file, *given, **named)

    def watched_predict(model, examples, *given):
        if (
            len(given) == 2
        ):  # a part of the examples is asked for: it is for soft targets, not for dev scores
            fold = next(part for part in model.came_from if part.endswith("-of-3"))
            scored.setdefault((examples.task.name, fold), []).append(set(examples.idx.tolist()))
        return predict(model, examples, *given)

    load = MultiTaskModel.load
    monkeypatch.setattr(MultiTaskModel, "load", watched_load)
    monkeypatch.setattr(stages, "fit", watched_fit)
    monkeypatch.setattr(voices, "predict", watched_predict)
    found = {name: ablation.cross_fitted(study, 3, name) for name in ("rte", "stsb")}
    for name, artifact in found.items():
        every = encoders.examples_of(study, "uncased", tasks.get(name), "train")
        parts = [scored[name, f"{number}-of-3"] for number in (1, 2, 3)]
        assert [len(part) for part in parts] == [2, 2, 2], "each member once"
        assert sorted(idx for part in parts for idx in part[0]) == sorted(every.idx.tolist()), (
            "each example in one part"
        )
        for number in (1, 2, 3):
            trained = [sets[name] for sets in seen[f"{number}-of-3"] if name in sets]
            assert len(trained) == 2 * 2, "two candidates, and each fine-tuned"
            assert all(not sets & scored[name, f"{number}-of-3"][0] for sets in trained)
            assert all(
                len(sets) == len(every) - len(scored[name, f"{number}-of-3"][0]) for sets in trained
            )
        assert soft_of(artifact, tasks.get(name)).for_examples(every).shape == (
            len(every),
            tasks.get(name).outputs,
        )
    whole = {len(sets["mrpc"]) for part in seen.values() for sets in part if "mrpc" in sets}
    assert whole == {40}, "a task without a teacher is trained on whole"
    own = soft_of(found["rte"], tasks.get("rte"), members=True)
    np.testing.assert_allclose(own.soft, own.members.mean(0), atol=1e-6)
    assert set(ablation.ablation(study, "folds", 0).frame("scores.csv").system) == {
        "mt-dnn-kd:folds"
    }


def test_a_model_like_the_student_teaches_all_tasks(work):
    study = levers_of(
        self_1={"source": "self_distillation", "generations": 1},
        self_2={"source": "self_distillation", "generations": 2},
    )
    first, second = (ablation.ablation(study, f"self-{generation}", 0) for generation in (1, 2))
    for found in (first, second):
        assert (
            set(found.record["inputs"]["teachers"])
            == {"rte", "stsb", "mrpc"}
            == set(found.record["inputs"]["distil"]["teachers"])
        )
    task = tasks.get("mrpc")
    targets = soft_of(read(first.path.parents[2] / "teachers" / "self-self-1" / "mrpc"), task)
    model = encoders.new_model(
        study, encoders.encoder(study, "uncased"), list(map(tasks.get, study.multitask)), 0.1
    )
    model.load(first.file("model.safetensors"))
    examples = encoders.examples_of(study, "uncased", task, "train")
    np.testing.assert_allclose(
        targets.logits_for(examples),
        voices.predict(model, examples, study.train.precision),
        atol=1e-6,
    )
    assert plan.before_variant(study, "self-2", 0) == ["self-1-s0"] and plan.before_variant(
        study, "self-2", 1
    ) == ["self-2-s0"]
    assert plan.before_variant(study, "self-1", 0) == []
