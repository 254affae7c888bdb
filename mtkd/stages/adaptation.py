"""Stage 07: BERT, MT-DNN and MT-DNN_KD fine-tuned on fractions of a new task, SNLI.

MT-DNN needs far fewer labels of a new task than BERT (Liu et al. 2019, arXiv:1901.11504).
For a seed all systems have the same new head, the same examples in the same batches, and the same
number of updates; a small fraction is repeated until there are `adaptation.min_updates`. Fractions
of a seed are nested. The settings are this project's.
"""

import math

import numpy as np

from mtkd.artifacts import Artifact, write_json
from mtkd.config.study import SYSTEMS, Study
from mtkd.config.training import Train
from mtkd.data.dataset import tokenize
from mtkd.data.glue import directory_fingerprint, limit_split
from mtkd.data.snli import load_snli, snli_location
from mtkd.stages import finetune, pretrain
from mtkd.stages.common import Run, weight_settings
from mtkd.stages.fit import fit
from mtkd.stages.inputs import Inputs, Output, read_examples
from mtkd.tasks import SNLI

NAME = "07_adaptation"


def runs(study: Study) -> list[Run]:
    """Return a run per system and seed."""
    seeds = study.adaptation.seeds if study.adaptation else []
    return [Run(NAME, system=system, seed=seed) for system in SYSTEMS for seed in seeds]


parents = finetune.parents  # the pre-trained encoder, and the model that a system starts from


def depends(study: Study, run: Run) -> dict:
    """Return which examples of SNLI are used, and the settings of fine-tuning."""
    section = study.require("adaptation")
    return {
        "encoder_dropout": study.model.encoder_dropout,
        **weight_settings(study, tuning(study)),
        "min_updates": section.min_updates,
        "fractions": section.fractions,
        "snli": {"source": directory_fingerprint(snli_location(section.hub), SNLI.name)}
        | _limits(study),
    }


def _limits(study: Study) -> dict:
    limits = study.adaptation.model_dump(include={"max_train", "max_dev"})
    return limits | {"seed": study.data.seed}


def steps(study: Study, run: Run) -> int:
    """Return the updates on all fractions."""
    section = study.adaptation
    whole = min(SNLI.num_train, section.max_train or SNLI.num_train)
    sizes = [subset_size(whole, fraction) for fraction in section.fractions]
    return sum(count_updates(tuning(study, size), size) for size in sizes)


def subset_size(whole: int, fraction: float) -> int:
    """Return the number of examples in a fraction, at least one."""
    return max(1, round(fraction * whole))


def subset(whole: int, fraction: float, seed: int) -> np.ndarray:
    """Return the rows of a fraction in order; a seed's smaller fractions are among them."""
    order = np.random.default_rng([seed, whole]).permutation(whole)
    return np.sort(order[: subset_size(whole, fraction)])


def tuning(study: Study, size: int | None = None) -> Train:
    """Return the settings of fine-tuning, with the epochs that `size` examples need."""
    section = study.adaptation
    changed = section.train.model_dump(exclude_none=True) | {"score_every_epoch": False}
    settings = study.finetuning.model_copy(update=changed)
    if size:
        enough = math.ceil(section.min_updates / math.ceil(size / settings.batch_size))
        settings = settings.model_copy(update={"epochs": max(settings.epochs, enough)})
    return settings


def count_updates(settings: Train, size: int) -> int:
    """Return the updates of a training on so many examples."""
    return settings.epochs * math.ceil(size / settings.batch_size)


def run(study: Study, system: str, seed: int) -> Artifact:
    """Fine-tune a system on each fraction, or load what was fine-tuned.

    The artifact's tables have the columns `share` (a fraction), `examples` and `updates`.
    """
    fractions = study.require("adaptation").fractions
    inputs = Inputs(study, Run(NAME, system=system, seed=seed))
    snli, columns = _tokenize_snli(inputs), []
    whole = len(read_examples(snli, SNLI, SNLI.train))
    for fraction in fractions:
        size = subset_size(whole, fraction)
        updates = count_updates(tuning(study, size), size)
        columns.append({"share": fraction, "examples": size, "updates": updates})
    return inputs.merge({f"{one:g}": _finetune(inputs, snli, one) for one in fractions}, columns)


def _tokenize_snli(inputs: Inputs) -> Artifact:
    """Return SNLI under the section's limits as word pieces: `snli/<split>.arrow`, `pad.json`."""
    study = inputs.study
    data = study.data.model_copy(update=_limits(study))

    def build(output: Output) -> None:
        tokenizer, longest = inputs.tokenizer(study.student_encoder)
        (output.folder / SNLI.name).mkdir()
        for split in (SNLI.train, *SNLI.dev):
            examples = limit_split(load_snli(split, study.adaptation.hub), SNLI, split, data)
            path = output.folder / SNLI.name / f"{split}.arrow"
            tokenize(examples, SNLI, tokenizer, longest, path)
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)

    settings, parents = depends(study, inputs.this)["snli"], inputs.only(pretrain.NAME)
    return inputs.build_part(SNLI.name, settings, parents, build, shared=True)


def _finetune(inputs: Inputs, snli: Artifact, fraction: float) -> Artifact:
    study, this = inputs.study, inputs.this

    def build(output: Output) -> None:
        whole = read_examples(snli, SNLI, SNLI.train)
        train_set = whole.subset(subset(len(whole), fraction, this.seed))
        dev_sets = [(split, read_examples(snli, SNLI, split)) for split in SNLI.dev]
        settings, given = tuning(study, len(train_set)), {"heads": False, "dev_sets": dev_sets}
        sets = {SNLI.name: train_set}
        fit(inputs, finetune.system_training(inputs, sets, settings, **given), output)

    settings = depends(study, this) | {"fractions": [fraction]}
    return inputs.build_part(f"{fraction:g}", settings, inputs.artifacts, build)
