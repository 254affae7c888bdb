"""What trained models say of examples: soft targets of a task's train set, and of texts beside it.

A voice is (encoder, dropout, its artifact, the model's artifact, name, heads).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch

from mtkd.artifacts import Artifact, make, write_json
from mtkd.config.study import Study
from mtkd.data import glue as load
from mtkd.data import snli as transfer
from mtkd.data.dataset import Examples, tokenise
from mtkd.data.unlabelled import texts
from mtkd.paths import folder
from mtkd.stages.inputs import encoder, examples_of, new_model, reading
from mtkd.tasks import SNLI, Task
from mtkd.training.predict import predict, probabilities
from mtkd.training.soft_targets import (
    SoftTargets,
    ensemble,
    read_soft_targets,
    slabs,
    write_soft_targets,
)


def soft_targets(
    study: Study, task: Task, voices: list[tuple], sets: dict[str, Examples] | None = None
) -> Iterator[tuple[SoftTargets, np.ndarray, int]]:
    """Eq. 3 on every train example, a part at a time: targets, labels, and how many examples there are in all.

    `sets` are other examples in place of the task's train set, as each encoder's tokenizer gives them.
    """
    sets = sets or {voice[0]: examples_of(study, voice[0], task, task.train) for voice in voices}
    examples = sets[voices[-1][0]]
    idx, labels = examples.idx, examples.labels
    for part in slabs(len(examples)):
        logits = []
        for encoder_name, dropout, start, found, _, heads in voices:
            model = new_model(study, start, heads, dropout)
            model.load(found.file("model.safetensors"))
            logits.append(predict(model, sets[encoder_name], study.train.precision, part))
        each = np.stack([probabilities(task, values) for values in logits])
        rows = slice(part.start, part.stop)
        yield (
            SoftTargets(
                task,
                idx[rows],
                ensemble(list(each)),
                each,
                np.mean(logits, axis=0),
                [voice[4] for voice in voices],
                examples.fingerprint,
            ),
            labels[rows],
            len(examples),
        )


def words(study: Study, place: Path, task: Task, voices: list[tuple]) -> Artifact:
    """An artifact with what these voices say of the task's train examples, alone (soft_targets.parquet)."""
    inputs = {
        "stage": "teacher-logits",
        "task": task.name,
        "data": load.stage(study).fingerprint,
        "max_length": study.data.max_length,
        "precision": study.train.precision,
        "members": [[voice[4], voice[3].fingerprint] for voice in voices],
    }

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        write_soft_targets(
            out / "soft_targets.parquet",
            (targets for targets, *_ in soft_targets(study, task, voices)),
        )

    return make(place, inputs, build)


def unlabelled(study: Study, task: Task, voices: list[tuple]) -> Artifact:
    """Texts beside a task's train set (`distil.unlabelled`), as the student's word pieces (tokens.arrow), with what these voices say
    of each (soft_targets.parquet); of a task without any, a note alone (notes.json).
    """
    given, own = study.distil.unlabelled, study.student_encoder
    source = load.origin_of(transfer.location(), SNLI.name) if given.snli else None
    inputs = {
        "stage": "unlabelled",
        "task": task.name,
        "texts": given.model_dump(exclude={"extra_updates"}),
        "transfer": source,
        "seed": study.data.seed,
        "data": load.stage(study).fingerprint,
        "max_length": study.data.max_length,
        "encoder": encoder(study, own).fingerprint,
        "precision": study.train.precision,
        "members": [[voice[4], voice[3].fingerprint] for voice in voices],
    }

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        raw, sets = texts(study, task, given, load.stage(study), out / ".read"), {}
        if len(raw):
            mark = load.examples_fingerprint(raw, task)
            for place in dict.fromkeys([own, *(voice[0] for voice in voices)]):
                tokenizer, longest = reading(study, encoder(study, place))
                pieces = tokenise(
                    raw, task, tokenizer, longest, out / "tokens.arrow" if place == own else None
                )
                sets[place] = Examples(task, pieces, mark, tokenizer.pad_token_id)
            write_soft_targets(
                out / "soft_targets.parquet",
                (found for found, *_ in soft_targets(study, task, voices, sets)),
            )
        else:
            write_json(
                out / "notes.json",
                [f"{task.title}: there is no text beside its train set (unlabelled)."],
            )
        shutil.rmtree(out / ".read", ignore_errors=True)

    amounts = "-".join(
        f"{source}-{getattr(given, source)}"
        for source in ("snli", "left_out_train", "other_tasks")
        if getattr(given, source)
    )
    return make(
        folder(study, "unlabelled", f"{amounts}-keep-{study.candidates.ensemble_size}", task.name),
        inputs,
        build,
    )


def texts_of(study: Study, found: Artifact, beside: Examples) -> Examples:
    """What `unlabelled` made, with soft targets as the student takes them."""
    targets = read_soft_targets(found.file("soft_targets.parquet"), beside.task)
    split = datasets.Dataset.from_file(str(found.file("tokens.arrow")))
    soft = targets.logits if study.distil.loss == "logits" else targets.soft
    return Examples(beside.task, split, targets.fingerprint, beside.pad_id, soft)
