"""The stages of a study, one function a notebook: each takes a Study and returns a stage's output.

A stage asks for its parents by calling their functions, and each output is kept as an artifact of exactly the settings
and parents that matter to it. So a stage that is done is not done again, and a notebook run alone makes what it needs.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from mtkd.artifacts import Artifact, make, scratch, write_json
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data import glue as data_files
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.paths import folder
from mtkd.stages.ensemble import soft_targets, texts_of, unlabelled
from mtkd.stages.inputs import encoder, examples_of, new_model
from mtkd.tasks import Task
from mtkd.training import distributed as parallel
from mtkd.training.loop import seed_everything, train
from mtkd.training.predict import predict, probabilities, score_rows
from mtkd.training.soft_targets import (
    CERTAINTY,
    Fold,
    SoftTargets,
    certainty,
    ensemble,
    read_soft_targets,
    select,
    write_soft_targets,
)
from mtkd.workflow.jobs import candidate_name, candidates


def data(study: Study) -> Artifact:
    """00_data: the tasks' examples and Table 1 from the data themselves (`sizes.csv`)."""
    return data_files.stage(study)


def pretrain(study: Study, name: str) -> Artifact:
    """01_pretrain: the encoder of that name, from its checkpoint or pre-trained (section 2.1)."""
    return encoder(study, name)


def mtdnn(
    study: Study, encoder_name: str, dropout: float, seed: int, without: Fold | None = None
) -> Artifact:
    """02_mtdnn: a vanilla MT-DNN by Algorithm 1 from hard targets (a candidate, or a seed of the baseline), all of them or
    `without` a part.
    """
    place = folder(
        study, *_apart(without), "mtdnn", f"{candidate_name(encoder_name, dropout)}-s{seed}"
    )
    # A notebook's parameter 0 and a study's 0.0 are the same run.
    return multitask(
        study, "mt-dnn:mtl", place, encoder_name, float(dropout), seed, {}, without=without
    )


def _apart(without: Fold | None) -> tuple[str, ...]:
    """Folders above the models that are trained without a part of the train sets."""
    return () if without is None else ("folds", f"{without.number + 1}-of-{without.of}")


def student(study: Study, seed: int) -> Artifact:
    """04_student: MT-DNN_KD, an MT-DNN trained on hard and soft targets of all tasks at once (section 3)."""
    soft = {name: teacher(study, name) for name in study.distil.teachers}
    return distilled(study, "mt-dnn-kd:mtl", folder(study, "student", f"s{seed}"), seed, soft)


def distilled(
    study: Study, system: str, place: Path, seed: int, soft: dict[str, Artifact]
) -> Artifact:
    """A student of these teachers, on the train sets and on what `distil.unlabelled` adds."""
    return multitask(
        study,
        system,
        place,
        study.student_encoder,
        study.model.encoder_dropout,
        seed,
        soft,
        further(study),
    )


def multitask(
    study: Study,
    system: str,
    place: Path,
    encoder_name: str,
    dropout: float,
    seed: int,
    teachers: dict[str, Artifact],
    more: dict[str, Artifact] | None = None,
    without: Fold | None = None,
) -> Artifact:
    """One training of all tasks by Algorithm 1, with the soft targets of some tasks' teachers.

    `more` holds those tasks' texts beside their train sets; `without` is the part of the train sets that is left out.
    """
    start = encoder(study, encoder_name)
    inputs = {
        "stage": "multitask",
        "system": system,
        "tasks": study.multitask,
        "seed": seed,
        "dropout": dropout,
        "encoder": start.fingerprint,
        "data": data(study).fingerprint,
        "max_length": study.data.max_length,
        "model": model_settings(study),
        "train": study.train.model_dump(exclude={"checkpoint_seconds"}),
        "teachers": {name: found.fingerprint for name, found in teachers.items()},
        "distil": study.distil.model_dump() if teachers else None,
    }
    inputs |= (
        {"unlabelled": {name: found.fingerprint for name, found in more.items()}} if more else {}
    ) | _inputs_of(without)

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        train_sets, dev_sets = {}, []
        for task in map(study.task, study.multitask):
            train_sets[task.name] = _train_set(study, encoder_name, task, without)
            dev_sets += dev_splits(study, encoder_name, task)
        for name, teacher_found in teachers.items():
            targets = read_soft_targets(
                teacher_found.file("soft_targets.parquet"), study.task(name)
            )
            wanted = targets.logits_for if study.distil.loss == "logits" else targets.for_examples
            train_sets[name].soft_targets = wanted(train_sets[name])
        texts = {
            name: found
            for name, found in (more or {}).items()
            if "tokens.arrow" in found.record["files"]
        }
        if more and not texts:
            raise UserError(
                f"There is no text beside the train sets of {', '.join(study.task(name).title for name in more)} (unlabelled): "
                "lower data.max_train, or take texts of SNLI (transfer) or of other tasks (tasks)."
            )
        for name, found in texts.items():
            labelled = train_sets[name]
            train_sets[name] = labelled.joined(texts_of(study, found, labelled))
            if not study.distil.unlabelled.extra_updates:
                train_sets[name].epoch_size = len(labelled)
        seed_everything(seed)
        model = new_model(study, start, list(map(study.task, study.multitask)), dropout)
        fit(
            model,
            train_sets,
            dev_sets,
            [],
            study.train,
            seed,
            out,
            inputs,
            system,
            study.distil,
            title=place.name,
        )

    return make(place, inputs, build)


def _inputs_of(without: Fold | None) -> dict:
    return {} if without is None else {"without": asdict(without)}


def _train_set(study: Study, encoder_name: str, task: Task, without: Fold | None) -> Examples:
    found = examples_of(study, encoder_name, task, task.train)
    return (
        found
        if without is None or task.name not in without.tasks
        else found.part(np.flatnonzero(~without.inside(found)))
    )


def fit(
    model: MultiTaskModel,
    train_sets: dict[str, Examples],
    dev_sets: list,
    test_sets: list,
    settings: Train,
    seed: int,
    out: Path,
    inputs: dict,
    system: str,
    distil=None,
    title: str = "",
    keep_model: bool = True,
) -> None:
    """Trains, in `settings.num_processes` processes, scores and writes model.safetensors, scores.csv, curve.csv, notes.json
    and predictions.parquet to `out`.
    """
    parallel.run(
        _fit,
        model,
        train_sets,
        dev_sets,
        test_sets,
        settings,
        seed,
        out,
        scratch(out, inputs),
        system,
        distil,
        title,
        keep_model,
        processes=settings.num_processes,
    )


def _fit(
    model: MultiTaskModel,
    train_sets: dict[str, Examples],
    dev_sets: list,
    test_sets: list,
    settings: Train,
    seed: int,
    out: Path,
    checkpoint: Path,
    system: str,
    distil,
    title: str,
    keep_model: bool,
) -> None:
    """`fit` in one process of a group: all train, the first scores and writes."""
    notes: list[str] = []
    outputs: dict[tuple[str, str], np.ndarray] = {}

    def scorer(current) -> list[dict]:
        rows = []
        notes.clear()
        for split, examples in dev_sets:
            outputs[examples.task.name, split] = found = probabilities(
                examples.task, predict(current, examples, settings.precision)
            )
            scored, said = score_rows(examples.task, split, found, examples.labels)
            rows += scored
            notes.extend(said)
        return rows

    log = train(
        model,
        train_sets,
        settings,
        seed=seed,
        checkpoint=checkpoint,
        distil=distil,
        scorer=scorer,
        title=title,
    )
    if not PartialState().is_main_process:
        return
    for split, examples in test_sets:
        outputs[examples.task.name, split] = probabilities(
            examples.task, predict(model, examples, settings.precision)
        )
    curve = pd.DataFrame(
        log, columns=["epoch", "task", "loss", "split", "metric", "value", "n", "seconds"]
    )
    curve.drop(columns="n").to_csv(out / "curve.csv", index=False)
    last = curve[(curve.epoch == curve.epoch.max()) & curve.metric.notna()]
    scores = last.assign(system=system, seed=seed, params=model.parameter_count())
    scores[["system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]].to_csv(
        out / "scores.csv", index=False
    )
    write_json(out / "notes.json", notes)
    _predictions([*dev_sets, *test_sets], outputs).to_parquet(
        out / "predictions.parquet", index=False
    )
    if keep_model:
        model.save(out / "model.safetensors")


def _predictions(sets: list[tuple[str, Examples]], outputs: dict) -> pd.DataFrame:
    """A row an example: task, split, idx, label (-1 or NaN where unknown), outputs (class probabilities, or a score)."""
    parts = [
        pd.DataFrame(
            dict(
                task=examples.task.name,
                split=split,
                idx=examples.idx,
                label=examples.labels.astype("float32"),
                outputs=list(outputs[examples.task.name, split]),
            )
        )
        for split, examples in sets
    ]
    return pd.concat(parts, ignore_index=True)


def model_settings(study: Study) -> dict:
    return study.model.model_dump(exclude={"encoder_dropout"})


def dev_splits(study: Study, encoder_name: str, task: Task) -> list[tuple[str, Examples]]:
    found = [(split, examples_of(study, encoder_name, task, split)) for split in task.dev]
    return [(split, examples) for split, examples in found if examples is not None]


def _finetuned(
    study: Study,
    place: Path,
    task: Task,
    start: Artifact,
    parent: Artifact | None,
    *,
    encoder_name: str,
    dropout: float,
    seed: int,
    system: str,
    new_head: bool,
    test: bool,
    keep_model: bool,
    settings: Train,
    without: Fold | None = None,
) -> Artifact:
    """One model fine-tuned on one task, from a multi-task model (`parent`) or from the encoder alone."""
    inputs = {
        "stage": "finetune",
        "system": system,
        "task": task.name,
        "seed": seed,
        "dropout": dropout,
        "new_head": new_head,
        "encoder": start.fingerprint,
        "parent": parent and parent.fingerprint,
        "data": data(study).fingerprint,
        "max_length": study.data.max_length,
        "model": model_settings(study),
        "test": test,
        "keep_model": keep_model,
        "train": settings.model_dump(exclude={"checkpoint_seconds"}),
        **_inputs_of(without),
    }

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        train_set = _train_set(study, encoder_name, task, without)
        seed_everything(seed)
        model = new_model(study, start, [task], dropout)
        if parent is not None:
            model.load(parent.file("model.safetensors"), heads=not new_head)
        tests = []
        if test:
            others = [
                other for other in map(study.task, study.tasks) if other.predicted_by == task.name
            ]
            wanted = [(other, split) for other in (task, *others) for split in other.test]
            found = [
                (split, examples_of(study, encoder_name, other, split, as_task=task))
                for other, split in wanted
            ]
            tests = [(split, examples) for split, examples in found if examples is not None]
        fit(
            model,
            {task.name: train_set},
            dev_splits(study, encoder_name, task),
            tests,
            settings,
            seed,
            out,
            inputs,
            system,
            title=f"{place.parent.parent.name} {place.parent.name} {task.title}",
            keep_model=keep_model,
        )

    return make(place, inputs, build)


def selection(study: Study) -> pd.DataFrame:
    """The candidates, best first, and which are kept (section 4.1)."""
    parts = []
    for encoder_name, dropout in candidates(study):
        scores = mtdnn(study, encoder_name, dropout, study.candidates.seed).frame("scores.csv")
        parts.append(scores.assign(candidate=candidate_name(encoder_name, dropout)))
    chosen = select(pd.concat(parts), study.candidates.select_on, study.candidates.ensemble_size)
    about = {candidate_name(*found): found for found in candidates(study)}
    chosen.insert(1, "encoder", [about[name][0] for name in chosen.candidate])
    chosen.insert(2, "dropout", [about[name][1] for name in chosen.candidate])
    return chosen


def members_of(study: Study, name: str, without: Fold | None = None) -> list[tuple]:
    """The members of a task's ensemble: (row of `selection`, encoder, model fine-tuned on the task).

    `without` a part of the train sets, candidates and members are trained anew; those chosen stay the same.
    """
    chosen = selection(study)
    members = []
    for row in chosen[chosen.kept].itertuples():
        start = encoder(study, row.encoder)
        parent = mtdnn(
            study,
            row.encoder,
            row.dropout,
            study.candidates.seed,
            *([] if without is None else [without]),
        )
        place = folder(study, *_apart(without), "members", row.candidate, name)
        members.append(
            (
                row,
                start,
                _finetuned(
                    study,
                    place,
                    study.task(name),
                    start,
                    parent,
                    encoder_name=row.encoder,
                    dropout=row.dropout,
                    seed=study.candidates.seed,
                    system="member",
                    new_head=study.candidates.new_head,
                    test=False,
                    keep_model=True,
                    settings=study.member_finetuning,
                    without=without,
                ),
            )
        )
    return members


def voices_of(task: Task, members: list[tuple]) -> list[tuple]:
    """The members of a task's ensemble as `soft_targets` takes them."""
    return [
        (row.encoder, row.dropout, start, member, row.candidate, [task])
        for row, start, member in members
    ]


def teacher(study: Study, name: str, place: Path | None = None) -> Artifact:
    """03_teacher: the best candidates, each fine-tuned on one task, averaged (section 3, Eq. 3).

    Writes scores.csv (the ensemble's, without a seed), members.csv, selection.csv, predictions.parquet,
    certainty.parquet, and for a task of `distil.teachers` soft_targets.parquet with a row a train example.
    """
    task, chosen, members = study.task(name), selection(study), members_of(study, name)
    inputs = {
        "stage": "teacher",
        "task": name,
        "soft": name in study.distil.teachers,
        "members": [[row.candidate, member.fingerprint] for row, _, member in members],
    }

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        own = [
            member.frame("scores.csv").assign(candidate=row.candidate) for row, _, member in members
        ]
        predictions = _averaged([member.frame("predictions.parquet") for _, _, member in members])
        rows, notes, sure = [], [], []
        for split, part in predictions.groupby("split", sort=False):
            outputs, labels = np.stack(part.outputs), part.label.to_numpy()
            scored, said = score_rows(task, split, outputs, labels)
            rows += scored
            notes += said
            if not task.regression:
                sure.append(certainty(task, split, "teacher", outputs, labels))
        scores = pd.DataFrame(rows).assign(
            system="mt-dnn-ensemble",
            seed=np.nan,
            params=sum(found.params.iloc[0] for found in own),
            seconds=sum(found.seconds.iloc[0] for found in own),
        )
        if name in study.distil.teachers:
            write_soft_targets(
                out / "soft_targets.parquet",
                _told(soft_targets(study, task, voices_of(task, members)), sure),
            )
        scores.to_csv(out / "scores.csv", index=False)
        pd.concat(own).to_csv(out / "members.csv", index=False)
        chosen.to_csv(out / "selection.csv", index=False)
        predictions.to_parquet(out / "predictions.parquet", index=False)
        pd.concat(sure or [pd.DataFrame(columns=CERTAINTY)]).to_parquet(
            out / "certainty.parquet", index=False
        )
        write_json(out / "notes.json", notes)

    return make(place or folder(study, "teachers", name), inputs, build)


def _averaged(parts: list[pd.DataFrame]) -> pd.DataFrame:
    outputs = ensemble([np.stack(part.outputs) for part in parts])
    return parts[0].assign(outputs=list(outputs))


def _told(
    parts: Iterator[tuple[SoftTargets, np.ndarray, int]],
    sure: list[pd.DataFrame],
    most: int = 100_000,
) -> Iterator[SoftTargets]:
    """Passes the targets on, and adds to `sure` how certain they are of at most so many examples, evenly spread."""
    seen = 0
    for targets, labels, count in parts:
        step = -(-count // most)
        rows = slice(-seen % step, None, step)
        if not targets.task.regression:
            sure.append(
                certainty(targets.task, "train", "teacher", targets.soft[rows], labels[rows])
            )
            sure += [
                certainty(targets.task, "train", "member", values[rows], labels[rows])
                for values in targets.members
            ]
        seen += len(labels)
        yield targets


def further(study: Study) -> dict[str, Artifact]:
    """`unlabelled` of every task with a teacher; nothing where the study has no `distil.unlabelled`."""
    taught = map(study.task, study.distil.teachers) if study.distil.unlabelled else ()
    return {
        task.name: unlabelled(study, task, voices_of(task, members_of(study, task.name)))
        for task in taught
    }


def parent_of(study: Study, system: str, seed: int) -> Artifact | None:
    """The multi-task model that a system is fine-tuned from, for that seed; None for BERT, which starts from the encoder alone."""
    parents: dict[str, Callable[[], Artifact | None]] = {
        "bert": lambda: None,
        "mt-dnn": lambda: mtdnn(study, study.student_encoder, study.model.encoder_dropout, seed),
        "mt-dnn-kd": lambda: student(study, seed),
    }
    if system not in parents:
        raise UserError(
            f"There is no system '{system}' to fine-tune: the systems are {', '.join(parents)}."
        )
    return parents[system]()


def finetune(study: Study, system: str, seed: int) -> list[Artifact]:
    """05_finetune: single-task BERT, or MT-DNN or MT-DNN_KD after multi-task training, fine-tuned on each task.

    An artifact a task, with dev scores, and with the test sets' predictions for the study's first seed.
    """
    name, dropout = study.student_encoder, study.model.encoder_dropout
    shared, start, done = parent_of(study, system, seed), encoder(study, name), []
    for task in map(study.task, study.trainable):
        new_head = study.finetune.new_head or shared is None or task.name not in study.multitask
        test = seed == study.seeds[0] and system in study.test_predictions
        done.append(
            _finetuned(
                study,
                folder(study, "finetune", system, f"s{seed}", task.name),
                task,
                start,
                shared,
                encoder_name=name,
                dropout=dropout,
                seed=seed,
                system=system,
                new_head=new_head,
                test=test,
                keep_model=False,
                settings=study.finetuning,
            )
        )
    return done
