"""The study's encoders: from a checkpoint, or pre-trained; and every task tokenised once for each."""

import os
from functools import lru_cache
from pathlib import Path

import datasets
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from mtkd.artifacts import Artifact, file_hash, make, scratch, write_json
from mtkd.config.study import Study
from mtkd.config.training import Encoder
from mtkd.data import glue as data_files
from mtkd.data.dataset import Examples, tokenise
from mtkd.errors import UserError, first_line
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.paths import folder
from mtkd.tasks import Task

logging.set_verbosity_error()  # its load report names heads and poolers that are left out on purpose
logging.disable_progress_bar()


def checkpoint_of(name: str, settings: Encoder) -> str | None:
    """Hub id or directory; the environment variable MTKD_ENCODER_<NAME> goes before the study."""
    return os.environ.get(f"MTKD_ENCODER_{name.upper()}") or settings.checkpoint


def encoder(study: Study, name: str) -> Artifact:
    """The encoder in transformers' format (`encoder/`) and where it came from (`origin.json`)."""
    if name not in study.encoders:
        raise UserError(
            f"Study {study.name} has no encoder '{name}': its encoders are {', '.join(study.encoders)}."
        )
    settings = study.encoders[name]
    checkpoint = checkpoint_of(name, settings)
    if checkpoint and (
        Path(checkpoint).is_dir() or settings.pretrain is None or _reachable(checkpoint)
    ):
        return _taken(study, name, checkpoint)
    return _pretrained(study, name)


@lru_cache
def _reachable(checkpoint: str) -> bool:
    """Whether the hub (or its local cache) gives the checkpoint's tokenizer."""
    try:
        AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    except (OSError, ValueError):
        return False
    return True


def _taken(study: Study, name: str, checkpoint: str) -> Artifact:
    source = Path(checkpoint)
    inputs = {"stage": "encoder", "checkpoint": checkpoint}
    if source.is_dir():
        files = [
            path
            for path in sorted(source.iterdir())
            if path.suffix in (".json", ".safetensors", ".txt")
        ]
        inputs = {"stage": "encoder", "files": [[path.name, file_hash(path)] for path in files]}

    def build(out: Path) -> None:
        from mtkd.training.loop import seed_everything

        seed_everything(0)  # a checkpoint without a pooler gets one here: the same in every run
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                checkpoint, use_safetensors=True, trust_remote_code=False
            )
        except (
            Exception
        ) as error:  # offline, not there, damaged, code of its own: transformers raises many kinds
            raise UserError(
                f"The checkpoint {checkpoint} of encoder '{name}' cannot be had ({first_line(error)}): set "
                f"MTKD_ENCODER_{name.upper()} to a directory that holds it, or give the encoder a pretrain recipe."
            ) from None
        if tokenizer("the film was good")["input_ids"].count(tokenizer.unk_token_id) > 2:
            raise UserError(
                f"The tokenizer of {checkpoint} maps plain English to {tokenizer.unk_token}: its vocabulary was not found; "
                "give a directory with tokenizer.json or vocab.txt."
            )
        model.save_pretrained(out / "encoder")
        tokenizer.save_pretrained(out / "encoder")
        write_json(
            out / "origin.json",
            {"from": "checkpoint", "checkpoint": source.name if source.is_dir() else checkpoint},
        )

    return make(folder(study, "encoder", name), inputs, build)


def _pretrained(study: Study, name: str) -> Artifact:
    recipe = study.encoders[name].pretrain
    if recipe.start_from in study.encoders:
        if recipe.start_from == name:
            raise UserError(
                f"Encoder '{name}' of study {study.name} starts from itself: name another in pretrain.start_from."
            )
        parent = encoder(study, recipe.start_from)
        start_key = parent.fingerprint
    else:
        parent, start_key = None, recipe.start_from
    text = os.environ.get("MTKD_PRETRAIN_TEXT")
    wanting = study.data.source == "glue" and not text
    own = [study.task(name) for name in study.trainable if wanting and name in study.own_tasks]
    if wanting and not own:
        raise UserError(
            f"Encoder '{name}' of study {study.name} has no checkpoint that can be had and must be pre-trained: set MTKD_PRETRAIN_TEXT "
            "to a text file (.txt, .txt.xz, .txt.gz; a paragraph a line), or "
            f"MTKD_ENCODER_{name.upper()} to a directory with a BERT."
        )
    if own:
        origin = {"own": data_files.stage(study).fingerprint}
    elif study.data.source == "glue" and Path(text).is_file():
        origin = {"text": file_hash(Path(text))}
    else:
        origin = data_files.origin(study.data)
    inputs = {
        "stage": "encoder",
        "pretrain": recipe.model_dump(exclude={"checkpoint_seconds", "start_from"}),
        "start": start_key,
        "text": origin,
        "seed": study.data.seed,
    }
    place = folder(study, "encoder", name)

    def build(out: Path) -> None:
        from mtkd.training.mlm import pretrain
        from mtkd.training.wordpiece import read_text

        if study.data.source == "synthetic":
            from mtkd.data import synthetic as synthetic

            def texts():
                return synthetic.text(seed=study.data.seed, sentences=recipe.sentences)
        elif own:

            def texts():
                return data_files.texts(data_files.stage(study), own)
        else:

            def texts():
                return read_text(Path(text))

        import torch

        torch.set_num_threads(study.threads)
        settings = (
            recipe
            if parent is None
            else recipe.model_copy(update={"start_from": str(parent.file("encoder"))})
        )
        log = pretrain(
            texts,
            settings,
            out / "encoder",
            seed=study.data.seed,
            checkpoint=scratch(place, inputs),
        )
        write_json(out / "origin.json", {"from": "pretrain", "recipe": recipe.model_dump(), **log})

    return make(place, inputs, build)


def tokens(study: Study, name: str) -> Artifact:
    """Every task's splits as word pieces of one encoder's tokenizer: `<task>/<split>.arrow`, read by every run."""
    start, raw = encoder(study, name), data_files.stage(study)
    inputs = {
        "stage": "tokens",
        "encoder": start.fingerprint,
        "data": raw.fingerprint,
        "max_length": study.data.max_length,
    }

    def build(out: Path) -> None:
        tokenizer, longest = reading(study, start)
        for task in map(study.task, study.tasks):
            for split, found in data_files.splits(raw, task):
                (out / task.name).mkdir(exist_ok=True)
                tokenise(found, task, tokenizer, longest, out / task.name / f"{split}.arrow")
        write_json(out / "pad.json", tokenizer.pad_token_id)

    return make(folder(study, "tokens", name), inputs, build)


def reading(study: Study, start: Artifact) -> tuple[PreTrainedTokenizerBase, int]:
    """An encoder's tokenizer, and the most word pieces of an example: `data.max_length`, or the places that the encoder has."""
    places = AutoConfig.from_pretrained(
        start.file("encoder"), trust_remote_code=False
    ).max_position_embeddings
    return tokenizer_of(start), min(study.data.max_length, places)


def tokenizer_of(start: Artifact) -> PreTrainedTokenizerBase:
    """The tokenizer of an encoder's output; no code of its folder is run. `UserError` where there is none, or an empty one."""
    place = start.file("encoder")
    try:
        found = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (
        Exception
    ) as error:  # transformers and tokenizers raise many kinds, and some that are Exception itself
        raise UserError(
            f"The tokenizer in {place} cannot be read ({first_line(error)}): remove {start.path} and run its stage "
            "again."
        ) from None
    if len(found) <= len(found.all_special_ids):
        raise UserError(
            f"The tokenizer in {place} has no word pieces (tokenizer.json is missing): remove {start.path} and run its stage "
            "again."
        )
    return found


def examples_of(
    study: Study, name: str, task: Task, split: str, as_task: Task | None = None
) -> Examples | None:
    """A tokenised split, or None where the data lack it; `as_task` is the task whose head scores it (AX by MNLI)."""
    raw, pieces = data_files.stage(study), tokens(study, name)
    known = raw.json("fingerprints.json").get(task.name, {})
    if split not in known:
        return None
    return tokenised(pieces, task, split, as_task, known[split])


def tokenised(
    pieces: Artifact, task: Task, split: str, as_task: Task | None = None, fingerprint: str = ""
) -> Examples:
    """A split of a `tokens` output."""
    found = datasets.Dataset.from_file(str(pieces.file(f"{task.name}/{split}.arrow")))
    return Examples(as_task or task, found, fingerprint, pieces.json("pad.json"))


def new_model(study: Study, start: Artifact, of: list[Task], dropout: float) -> MultiTaskModel:
    """A model of these tasks on an encoder's output, with new heads."""
    shared = load_encoder(start.file("encoder"), dropout=dropout, pooling=study.model.pooling)
    return MultiTaskModel(
        shared,
        of,
        {
            task.name: study.model.head_dropout_of.get(task.name, study.model.head_dropout)
            for task in of
        },
    )
