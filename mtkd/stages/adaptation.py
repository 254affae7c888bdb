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
from mtkd.stages import pretrain
from mtkd.stages.common import (
    Evaluation,
    Output,
    Run,
    build_or_load,
    build_part,
    fit,
    merge_parts,
    model_settings,
    train_settings,
)
from mtkd.stages.finetune import start_of
from mtkd.stages.inputs import Inputs, read_examples
from mtkd.tasks import SNLI
from mtkd.training.loop import TrainingRun, seed_everything

NAME = "07_adaptation"
SHARED = Run(NAME)  # the owner of SNLI's word pieces, which all runs read


def runs(study: Study) -> list[Run]:
    """Return a run per system and seed."""
    seeds = study.adaptation.seeds if study.adaptation else []
    return [Run(NAME, system=system, seed=seed) for system in SYSTEMS for seed in seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the pre-trained encoder and the multi-task model that a system starts from."""
    return [Run(pretrain.NAME, encoder=study.student_encoder), *start_of(study, run)]


def depends(study: Study, run: Run) -> dict:
    """Return which examples of SNLI are used, and the settings of fine-tuning."""
    section = study.require("adaptation")
    source = directory_fingerprint(snli_location(section.hub), SNLI.name)
    return {
        "encoder_dropout": study.model.encoder_dropout,
        "model": model_settings(study),
        "train": train_settings(tuning(study)),
        "min_updates": section.min_updates,
        "fractions": section.fractions,
        "snli": {"source": source, **_limits(study)},
    }


def _limits(study: Study) -> dict:
    section = study.adaptation
    return {"max_train": section.max_train, "max_dev": section.max_dev, "seed": study.data.seed}


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
    study.require("adaptation")
    this = Run(NAME, system=system, seed=seed)
    inputs = Inputs(study, this)
    snli = _tokenize_snli(inputs)
    fractions = study.adaptation.fractions
    parts = {f"{one:g}": _finetune(inputs, this, snli, one) for one in fractions}

    def build(output: Output) -> None:
        columns = [part.json("fraction.json") for part in parts.values()]
        merge_parts(parts.values(), output, columns)

    return build_or_load(study, this, build, parts)


def _tokenize_snli(inputs: Inputs) -> Artifact:
    """Return SNLI under the section's limits as word pieces: `snli/<split>.arrow`, `pad.json`."""
    study, encoder = inputs.study, inputs.study.student_encoder
    settings = depends(study, inputs.this)["snli"]
    data = study.data.model_copy(update=_limits(study))

    def build(output: Output) -> None:
        tokenizer, longest = inputs.tokenizer(encoder), inputs.max_length(encoder)
        (output.folder / SNLI.name).mkdir()
        for split in (SNLI.train, *SNLI.dev):
            examples = limit_split(load_snli(split, study.adaptation.hub), SNLI, split, data)
            path = output.folder / SNLI.name / f"{split}.arrow"
            tokenize(examples, SNLI, tokenizer, longest, path)
        write_json(output.folder / "pad.json", tokenizer.pad_token_id)

    parents = inputs.only(pretrain.NAME)
    return build_part(study, SHARED, SNLI.name, settings, parents, build)


def _finetune(inputs: Inputs, this: Run, snli: Artifact, fraction: float) -> Artifact:
    study, encoder = inputs.study, inputs.study.student_encoder
    settings = depends(study, this) | {"fractions": [fraction]}

    def build(output: Output) -> None:
        whole = read_examples(snli, SNLI, SNLI.train)
        train_set = whole.subset(subset(len(whole), fraction, this.seed))
        train = tuning(study, len(train_set))
        seed_everything(this.seed)
        model = inputs.new_model(encoder, [SNLI], study.model.encoder_dropout)
        for start in start_of(study, this):
            model.load(inputs[start].file("model.safetensors"), heads=False)
        title = f"{this.name} {fraction:g} of SNLI"
        training = TrainingRun({SNLI.name: train_set}, train, this.seed, title=title)
        evaluation = Evaluation([(split, read_examples(snli, SNLI, split)) for split in SNLI.dev])
        fit(model, training, evaluation, output, system=this.system)
        updates = count_updates(train, len(train_set))
        about = {"share": fraction, "examples": len(train_set), "updates": updates}
        write_json(output.folder / "fraction.json", about)

    return build_part(study, this, f"{fraction:g}", settings, inputs.artifacts, build)
