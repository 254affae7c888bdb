"""Stage 01: the study's encoders, and every task's examples as word pieces of each.

MT-DNN_KD starts from pre-trained BERT (section 2.1 of Liu et al. 2019, arXiv:1904.09482). An
encoder is a checkpoint in transformers' format, or it is pre-trained here by masked language
modelling where no checkpoint is available.
"""

import os
from functools import lru_cache
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from mtkd.artifacts import Artifact, file_hash, read, write_json
from mtkd.config.study import Study
from mtkd.config.training import Encoder
from mtkd.data.dataset import tokenize
from mtkd.data.glue import source_fingerprint
from mtkd.errors import UserError, first_line
from mtkd.stages import data
from mtkd.stages.common import Output, Run, build_or_load, build_part, load_parents
from mtkd.training.loop import seed_everything

NAME = "01_pretrain"
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
    if encoder not in study.encoders:
        known = ", ".join(study.encoders)
        raise UserError(f"Study {study.name} has no encoder '{encoder}': its encoders are {known}.")
    this = Run(NAME, encoder=encoder)
    inputs = load_parents(study, this)
    weights = _weights(study, this, inputs)

    def build(output: Output) -> None:
        raw = inputs[Run(data.NAME)]
        tokenizer, longest = tokenizer_of(weights), max_length(study, weights)
        for task in map(study.task, study.tasks):
            (output.folder / task.name).mkdir()
            for split, examples in data.read_splits(raw, task).items():
                path = output.folder / task.name / f"{split}.arrow"
                tokenize(examples, task, tokenizer, longest, path)
        write_json(output.folder / "fingerprints.json", raw.json("fingerprints.json"))
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)
        write_json(output.folder / "origin.json", weights.json("origin.json"))

    return build_or_load(study, this, build, {"encoder": weights})


def encoder_of(study: Study, name: str) -> Artifact:
    """Return an encoder's weights and tokenizer (`encoder/`, in transformers' format) once they are
    built.
    """
    return read(Run(NAME, encoder=name).part_folder(study, "encoder"))


def tokenizer_of(weights: Artifact) -> PreTrainedTokenizerBase:
    """Read an encoder's tokenizer; no code of its folder is run. Raise `UserError` if there is
    none.
    """
    folder = weights.file("encoder")
    remedy = f"remove {weights.path} and run its stage again"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise UserError(
            f"The tokenizer in {folder} cannot be read ({first_line(error)}): {remedy}."
        ) from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(
            f"The tokenizer in {folder} has no word pieces (no tokenizer.json): {remedy}."
        )
    return tokenizer


def max_length(study: Study, weights: Artifact) -> int:
    """Return the word pieces that an example is cut to: `data.max_length`, or the encoder's
    positions.
    """
    config = AutoConfig.from_pretrained(weights.file("encoder"), trust_remote_code=False)
    return min(study.data.max_length, config.max_position_embeddings)


def checkpoint_of(name: str, settings: Encoder) -> str | None:
    """Return a hub id or directory; MTKD_ENCODER_<NAME> goes before the study."""
    return os.environ.get(f"MTKD_ENCODER_{name.upper()}") or settings.checkpoint


def _usable_checkpoint(name: str, settings: Encoder) -> str | None:
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
    settings = study.encoders[name]
    if checkpoint := _usable_checkpoint(name, settings):
        folder = Path(checkpoint)
        if not folder.is_dir():
            return {"checkpoint": checkpoint}
        files = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS]
        return {"files": [[path.name, file_hash(path)] for path in files]}
    recipe = settings.pretrain
    return {
        "pretrain": recipe.model_dump(exclude={"checkpoint_seconds"}),
        "text": _text_source(study),
        "seed": study.data.seed,
    }


def _text_source(study: Study) -> dict:
    if study.data.source == "synthetic":
        return source_fingerprint(study.data)
    text = os.environ.get("MTKD_PRETRAIN_TEXT")
    if not text:
        return {"custom": _custom_tasks(study)}
    return {"file": file_hash(Path(text)) if Path(text).is_file() else text}


def _custom_tasks(study: Study) -> list[str]:
    return [name for name in study.trainable if name in study.own_tasks]


def _weights(study: Study, this: Run, inputs: dict[Run, Artifact]) -> Artifact:
    """Return the part that holds `encoder/` and `origin.json`."""
    name = this.encoder
    source = _source(study, name)
    checkpoint = _usable_checkpoint(name, study.encoders[name])
    text = source.get("text") or {}
    if "custom" in text and not text["custom"]:
        raise UserError(
            f"Encoder '{name}' of study {study.name} has no checkpoint: "
            f"set MTKD_ENCODER_{name.upper()} to a BERT, or MTKD_PRETRAIN_TEXT to a "
            "text file to pre-train it on (.txt, .txt.xz, .txt.gz; a paragraph a line)."
        )
    parents: dict[Run, Artifact] = {}
    if "custom" in text:
        parents[Run(data.NAME)] = inputs[Run(data.NAME)]

    def build(output: Output) -> None:
        if checkpoint:
            _copy_checkpoint(name, checkpoint, output)
        else:
            _pretrain(study, name, parents, output)

    return build_part(study, this, "encoder", source, parents, build)


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
    if tokenizer("the film was good")["input_ids"].count(tokenizer.unk_token_id) > 2:
        raise UserError(
            f"The tokenizer of {checkpoint} maps plain English to {tokenizer.unk_token}: its "
            "vocabulary is missing; give a directory with tokenizer.json or vocab.txt."
        )
    model.save_pretrained(output.folder / "encoder")
    tokenizer.save_pretrained(output.folder / "encoder")
    folder = Path(checkpoint)
    source = folder.name if folder.is_dir() else checkpoint
    write_json(output.folder / "origin.json", {"from": "checkpoint", "checkpoint": source})


def _pretrain(study: Study, name: str, parents: dict[Run, Artifact], output: Output) -> None:
    from mtkd.training.mlm import pretrain
    from mtkd.training.wordpiece import read_text

    recipe = study.encoders[name].pretrain

    def texts():
        if study.data.source == "synthetic":
            from mtkd.data import synthetic

            return synthetic.text(seed=study.data.seed, sentences=recipe.sentences)
        if raw := parents.get(Run(data.NAME)):
            return data.train_texts(raw, [study.task(task) for task in _custom_tasks(study)])
        return read_text(Path(os.environ["MTKD_PRETRAIN_TEXT"]))

    torch.set_num_threads(study.threads)
    folder = output.folder / "encoder"
    log = pretrain(texts, recipe, folder, seed=study.data.seed, checkpoint=output.checkpoint)
    record = {"from": "pretrain", "recipe": recipe.model_dump(), **log}
    write_json(output.folder / "origin.json", record)
