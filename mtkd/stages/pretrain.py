"""Stage 01: the study's encoders, and every task's examples as word pieces of each.

MT-DNN_KD starts from pre-trained BERT (section 2.1 of Liu et al. 2019, arXiv:1904.09482). An
encoder is a checkpoint in transformers' format, or it is pre-trained here by masked language
modelling where no checkpoint is available.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from mtkd.artifacts import Artifact, file_hash, write_json
from mtkd.config.study import Study
from mtkd.config.training import Encoder
from mtkd.data import synthetic
from mtkd.data.dataset import tokenize
from mtkd.data.glue import source_fingerprint
from mtkd.errors import UserError, first_line
from mtkd.stages import data
from mtkd.stages.common import Run, lookup
from mtkd.stages.inputs import Inputs, Output, read_tokenizer
from mtkd.training.loop import seed_everything

NAME = "01_pretrain"
TEXT = "MTKD_PRETRAIN_TEXT"
WEIGHTS = (".json", ".safetensors", ".txt")

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
    return {"encoder": _source(study, run.encoder), "max_length": study.data.max_length}


def steps(study: Study, run: Run) -> int:
    """Return the updates of pre-training, 0 for a checkpoint."""
    recipe = study.encoders[run.encoder].pretrain
    if checkpoint_of(run.encoder, study.encoders[run.encoder]):
        return 0
    return -(-recipe.train_tokens // (recipe.seq_length * recipe.batch_size))


def run(study: Study, encoder: str) -> Artifact:
    """Take or pre-train an encoder, and tokenize every task's splits by its tokenizer.

    The artifact holds `<task>/<split>.arrow` (word pieces), `fingerprints.json` (of the examples),
    `pad.json` (the pad token's id) and `origin.json` (where the weights came from). The weights are
    its part `encoder`.
    """
    lookup(study, "encoder", encoder, study.encoders)
    inputs = Inputs(study, Run(NAME, encoder=encoder))
    weights = _weights(inputs)

    def build(output: Output) -> None:
        tokenizer, longest = read_tokenizer(study, weights)
        for task in map(study.task, study.tasks):
            (output.folder / task.name).mkdir()
            for split, examples in data.read_splits(inputs.data, task).items():
                path = output.folder / task.name / f"{split}.arrow"
                tokenize(examples, task, tokenizer, longest, path)
        write_json(output.folder / "fingerprints.json", inputs.data.json("fingerprints.json"))
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)
        write_json(output.folder / "origin.json", weights.json("origin.json"))

    return inputs.build(build, {"encoder": weights})


def checkpoint_of(name: str, settings: Encoder) -> str | None:
    """Return a hub id or directory; MTKD_ENCODER_<NAME> goes before the study."""
    return os.environ.get(f"MTKD_ENCODER_{name.upper()}") or settings.checkpoint


def _usable_checkpoint(study: Study, name: str) -> str | None:
    """Return an encoder's checkpoint, or None if it is to be pre-trained."""
    settings = study.encoders[name]
    checkpoint = checkpoint_of(name, settings)
    if checkpoint and settings.pretrain and not Path(checkpoint).is_dir():
        return checkpoint if _reachable(checkpoint) else None
    return checkpoint


@lru_cache
def _reachable(checkpoint: str) -> bool:
    """Tell whether the hub (or its local cache) gives the checkpoint's tokenizer."""
    try:
        AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    except (OSError, ValueError):
        return False
    return True


def _source(study: Study, name: str) -> dict:
    """Return what identifies an encoder's weights before they are read or trained."""
    if checkpoint := _usable_checkpoint(study, name):
        folder = Path(checkpoint)
        if not folder.is_dir():
            return {"checkpoint": checkpoint}
        files = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS]
        return {"files": [[path.name, file_hash(path)] for path in files]}
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
    depends, checkpoint = _source(study, name), _usable_checkpoint(study, name)
    text = depends.get("text") or {}
    if text.get("custom") == []:
        raise UserError(
            f"Encoder '{name}' of study {study.name} has no checkpoint: "
            f"set MTKD_ENCODER_{name.upper()} to a BERT, or MTKD_PRETRAIN_TEXT to a "
            "text file to pre-train it on (.txt, .txt.xz, .txt.gz; a paragraph a line)."
        )

    def build(output: Output) -> None:
        if checkpoint:
            _copy_checkpoint(name, checkpoint, output)
        else:
            _pretrain(inputs, output)

    parents = [Run(data.NAME)] if "custom" in text else []
    return inputs.build_part("encoder", depends, parents, build)


def _copy_checkpoint(name: str, checkpoint: str, output: Output) -> None:
    seed_everything(0)  # a checkpoint without a pooler gets one here: the same in every run
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        model = AutoModel.from_pretrained(checkpoint, use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise UserError(
            f"The checkpoint {checkpoint} of encoder '{name}' does not load ({first_line(error)}): "
            f"set MTKD_ENCODER_{name.upper()} to a directory that holds it, or give it a recipe "
            "(pretrain)."
        ) from None
    model.save_pretrained(output.folder / "encoder")
    tokenizer.save_pretrained(output.folder / "encoder")
    folder = Path(checkpoint)
    source = folder.name if folder.is_dir() else checkpoint
    write_json(output.folder / "origin.json", {"from": "checkpoint", "checkpoint": source})


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
