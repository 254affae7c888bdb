"""Adaptation with few labels: BERT, MT-DNN and MT-DNN_KD fine-tuned on shares of SNLI's train set.

Liu et al. 2019 (arXiv:1901.11504, section 5) find that MT-DNN needs far fewer labels of a new task than BERT. Here every
system starts with the same fresh head for a seed, on the same examples in the same batches, with the same number of
updates: a small share is gone through again until the weights have had `adaptation.min_updates` updates. A seed's
shares are nested, each the first part of one random order of the train examples; classes are as the draw gives them.
Settings are this project's.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtkd.artifacts import Artifact, make, write_json
from mtkd.config.study import Study
from mtkd.data import glue as load
from mtkd.data import snli as transfer
from mtkd.data.dataset import tokenise
from mtkd.paths import folder
from mtkd.stages.common import fit, model_settings, parent_of
from mtkd.stages.inputs import encoder, new_model, reading, tokenised
from mtkd.tasks import SNLI
from mtkd.training.loop import seed_everything
from mtkd.workflow.jobs import (
    SYSTEMS,
    adaptation_of,
    adaptation_seeds,
    adaptation_settings,
    adaptation_size,
    adaptation_training,
)

COLUMNS = [
    "study",
    "system",
    "task",
    "share",
    "examples",
    "updates",
    "split",
    "metric",
    "value",
    "seed",
    "n",
    "params",
    "seconds",
]


def data(study: Study) -> Artifact:
    """SNLI under the section's limits as word pieces of the student's encoder: `snli/<split>.arrow`."""
    section, start = adaptation_of(study), encoder(study, study.student_encoder)
    limits = {"max_train": section.max_train, "max_dev": section.max_dev, "seed": study.data.seed}
    inputs = {
        "stage": "adaptation-data",
        "encoder": start.fingerprint,
        "max_length": study.data.max_length,
        **limits,
        "origin": load.origin_of(transfer.location(section.hub), SNLI.name),
    }

    def build(out: Path) -> None:
        tokenizer, longest = reading(study, start)
        (out / SNLI.name).mkdir()
        for split in (SNLI.train, *SNLI.dev):
            found = load.limited(
                transfer.snli(split, section.hub), SNLI, split, study.data.model_copy(update=limits)
            )
            tokenise(found, SNLI, tokenizer, longest, out / SNLI.name / f"{split}.arrow")
        write_json(out / "pad.json", tokenizer.pad_token_id)

    return make(folder(study, "adaptation", "data"), inputs, build)


def subset(examples: int, share: float, seed: int) -> np.ndarray:
    """The rows of a share of so many examples, in order: those of a smaller share of the same seed are among them."""
    order = np.random.default_rng([seed, examples]).permutation(examples)
    return np.sort(order[: adaptation_size(share, examples)])


def adaptation(study: Study, system: str, seed: int) -> list[Artifact]:
    """06_adaptation: a system of that seed fine-tuned on each share; an artifact a share, with dev scores and `about.json`."""
    section, name, dropout = (
        adaptation_of(study),
        study.student_encoder,
        study.model.encoder_dropout,
    )
    parent, start, pieces, done = (
        parent_of(study, system, seed),
        encoder(study, name),
        data(study),
        [],
    )
    for share in section.fractions:
        inputs = {
            "stage": "adaptation",
            "system": system,
            "task": SNLI.name,
            "share": share,
            "seed": seed,
            "dropout": dropout,
            "encoder": start.fingerprint,
            "parent": parent and parent.fingerprint,
            "data": pieces.fingerprint,
            "model": model_settings(study),
            "min_updates": section.min_updates,
            "train": adaptation_settings(study).model_dump(exclude={"checkpoint_seconds"}),
        }

        def build(out: Path, share=share, inputs=inputs) -> None:
            torch.set_num_threads(study.threads)
            whole = tokenised(pieces, SNLI, SNLI.train)
            train_set = whole.part(subset(len(whole), share, seed))
            settings = adaptation_training(study, len(train_set))
            dev_sets = [(split, tokenised(pieces, SNLI, split)) for split in SNLI.dev]
            seed_everything(seed)
            model = new_model(study, start, [SNLI], dropout)
            if parent is not None:
                model.load(parent.file("model.safetensors"), heads=False)
            fit(
                model,
                {SNLI.name: train_set},
                dev_sets,
                [],
                settings,
                seed,
                out,
                inputs,
                system,
                title=f"{system} s{seed}, {share:g} of SNLI",
                keep_model=False,
            )
            updates = settings.epochs * -(-len(train_set) // settings.batch_size)
            write_json(
                out / "about.json", {"share": share, "examples": len(train_set), "updates": updates}
            )

        done.append(
            make(folder(study, "adaptation", system, f"s{seed}", f"{share:g}"), inputs, build)
        )
    return done


def results(study: Study) -> tuple[list[Artifact], pd.DataFrame]:
    """Every run of the study, and its scores: a row a system, share, metric and seed (`COLUMNS`; values in percent)."""
    found = [
        run
        for system in SYSTEMS
        for seed in adaptation_seeds(study)
        for run in adaptation(study, system, seed)
    ]
    return found, scores(found).assign(study=study.name)[COLUMNS]


def scores(found: list[Artifact]) -> pd.DataFrame:
    """The scores of some runs with their share, examples and updates."""
    return pd.concat(
        [run.frame("scores.csv").assign(**run.json("about.json")) for run in found],
        ignore_index=True,
    )
