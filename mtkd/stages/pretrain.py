"""Stage 01: the study's encoders, and every task's examples as word pieces of each.

MT-DNN_KD starts from pre-trained BERT (section 2.1 of Liu et al. 2019, arXiv:1904.09482). An
encoder is a checkpoint in transformers' format, or it is pre-trained here by masked language
modelling where no checkpoint is available.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from transformers.utils import logging

from mtkd.artifacts import Artifact, file_hash, write_json
from mtkd.config.study import Study
from mtkd.data import synthetic
from mtkd.data.dataset import count_lengths, tokenize
from mtkd.data.glue import source_fingerprint
from mtkd.data.questions import question_ids
from mtkd.errors import UserError
from mtkd.models.student import check_student
from mtkd.stages import data
from mtkd.stages.checkpoint import checkpoint_of, copy_checkpoint, identity, usable_checkpoint
from mtkd.stages.common import Run, lookup
from mtkd.stages.inputs import Inputs, Output, read_tokenizer

NAME = "01_pretrain"
TEXT = "MTKD_PRETRAIN_TEXT"

logging.set_verbosity_error()  # its load report names heads that are left out on purpose
logging.disable_progress_bar()


def runs(study: Study) -> list[Run]:
    """Return one run per encoder."""
    return [Run(NAME, encoder=name) for name in study.encoders]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the data, which its tokenizer reads."""
    return [Run(data.NAME)]


def depends(study: Study, run: Run) -> dict:
    """Return what identifies the weights, and the length that examples are cut to."""
    ranked = {"ranked": study.rank_in_multitask} if study.rank_in_multitask else {}
    return {"encoder": _source(study, run.encoder), "max_length": study.data.max_length, **ranked}


def steps(study: Study, run: Run) -> int:
    """Return the updates of pre-training, 0 for a checkpoint."""
    recipe = study.encoders[run.encoder].pretrain
    if checkpoint_of(study, run.encoder):
        return 0
    return -(-recipe.train_tokens // (recipe.seq_length * recipe.batch_size))


def run(study: Study, encoder: str) -> Artifact:
    """Take or pre-train an encoder, and tokenize every task's splits by its tokenizer.

    The artifact holds `<task>/<split>.arrow` (word pieces), `fingerprints.json` (of the examples),
    `pad.json` (the pad token's id), `lengths.csv` (word pieces of each split before the cut to
    `data.max_length`) and `origin.json` (where the weights came from). The weights are its part
    `encoder`. Of a task in `rank_in_multitask`, `<task>/<split>.npy` has each example's question.
    """
    lookup(study, "encoder", encoder, study.encoders)
    inputs = Inputs(study, Run(NAME, encoder=encoder))
    weights = _weights(inputs)
    _check_students(study, encoder, weights)

    def build(output: Output) -> None:
        tokenizer, longest = read_tokenizer(study, weights)
        lengths = []
        for task in map(study.task, study.tasks):
            (output.folder / task.name).mkdir()
            for split, examples in data.read_splits(inputs.data, task).items():
                path = output.folder / task.name / f"{split}.arrow"
                tokens = tokenize(examples, task, tokenizer, longest, path)
                row = {"task": task.name, "split": split}
                lengths.append(row | count_lengths(tokens, longest))
                if task.name in study.rank_in_multitask:
                    np.save(path.with_suffix(".npy"), question_ids(examples, task))
        pd.DataFrame(lengths).to_csv(output.folder / "lengths.csv", index=False)
        write_json(output.folder / "fingerprints.json", inputs.data.json("fingerprints.json"))
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)
        write_json(output.folder / "origin.json", weights.json("origin.json"))

    return inputs.build(build, {"encoder": weights})


def _check_students(study: Study, encoder: str, weights: Artifact) -> None:
    """Raise `UserError` where a student of MKD cannot be had of its teacher's encoder."""
    if study.mkd is None or study.mkd.teacher_encoder != encoder:
        return
    folder = weights.path / "encoder"  # its weights are not read here, and so need no check
    for name, student in study.mkd.resolved(study.resolve_checkpoint).items():
        try:
            check_student(student, folder, study.data.max_length, study.mkd.layerwise_of(name))
        except UserError as error:
            raise UserError(f"mkd.students.{name}: {error}") from None


def _source(study: Study, name: str) -> dict:
    """Return what identifies an encoder's weights before they are read or trained."""
    if checkpoint := usable_checkpoint(study, name):
        return identity(study, name, checkpoint)
    recipe = study.encoders[name].pretrain
    text = os.environ.get(TEXT)
    if study.data.source == "synthetic":
        source = source_fingerprint(study.data)
    elif text:
        source = {"file": file_hash(Path(text)) if Path(text).is_file() else text}
    else:
        source = {"custom": data.custom_tasks(study)}
    return {
        "pretrain": recipe.model_dump(exclude={"checkpoint_seconds"}),
        "text": source,
        "seed": study.data.seed,
    }


def _weights(inputs: Inputs) -> Artifact:
    """Return the part that holds `encoder/` and `origin.json`."""
    study, name = inputs.study, inputs.this.encoder
    depends, checkpoint = _source(study, name), usable_checkpoint(study, name)
    text = depends.get("text") or {}
    if text.get("custom") == []:
        raise UserError(
            f"Encoder '{name}' of study {study.name} has no checkpoint: "
            f"set MTKD_ENCODER_{name.upper()} to a BERT, or MTKD_PRETRAIN_TEXT to a "
            "text file to pre-train it on (.txt, .txt.xz, .txt.gz; a paragraph a line)."
        )

    def build(output: Output) -> None:
        if checkpoint:
            origin = copy_checkpoint(study, name, checkpoint, output.folder / "encoder")
            write_json(output.folder / "origin.json", origin)
        else:
            _pretrain(inputs, output)

    parents = [Run(data.NAME)] if "custom" in text else []
    return inputs.build_part("encoder", depends, parents, build)


def _pretrain(inputs: Inputs, output: Output) -> None:
    from mtkd.training.mlm import pretrain
    from mtkd.training.wordpiece import read_text

    study, name = inputs.study, inputs.this.encoder
    recipe, seed, path = study.encoders[name].pretrain, study.data.seed, os.environ.get(TEXT)

    def texts() -> Iterable[str]:
        if study.data.source == "synthetic":
            return synthetic.text(seed=seed, sentences=recipe.sentences)
        if path:
            return read_text(Path(path))
        return data.train_texts(inputs.data, list(map(study.task, data.custom_tasks(study))))

    folder = output.folder / "encoder"
    log = pretrain(texts, recipe, folder, seed=seed, checkpoint=output.checkpoint)
    record = {"from": "pretrain", "recipe": recipe.model_dump(), **log}
    write_json(output.folder / "origin.json", record)
