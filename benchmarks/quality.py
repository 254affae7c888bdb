"""Equal quality: the same data, epochs and batch size reach the same dev score, trained by mtkd and by the tuned Trainer.

Two tasks of the synthetic suite, five seeds each, the same encoder of random weights. Prints a row a task: mean and standard
deviation over the seeds, and the difference with its 95 % interval (paired by seed).
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from contenders import arguments, classifier, tokenised
from scipy import stats
from transformers import BertConfig, BertModel, Trainer
from work import MAX_LENGTH, Work

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data import synthetic as synthetic
from mtkd.data.dataset import Examples
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.training.loop import seed_everything, train
from mtkd.training.mlm import train_tokenizer
from mtkd.training.predict import predict, probabilities, score_rows


def prepare(folder: Path, layers: int = 2, hidden: int = 128) -> Work:
    tokenizer = train_tokenizer(synthetic.text(sentences=10_000), cased=False, vocab_size=2000)
    tokenizer.model_max_length = MAX_LENGTH
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=4 * hidden,
        max_position_embeddings=MAX_LENGTH,
    )
    BertModel(config).save_pretrained(folder / "quality")
    tokenizer.save_pretrained(folder / "quality")
    return Work(folder, "quality", updates=1, of=1, device="cpu")


def by_mtkd(
    work: Work, task, sets: dict[str, Examples], seed: int, settings: Train
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs on the dev set, and its labels."""
    seed_everything(seed)
    model = MultiTaskModel(
        load_encoder(work.encoder, dropout=0.1, pooling="pooler"), [task], {task.name: 0.1}
    )
    train(
        model,
        {task.name: sets["train"]},
        settings,
        seed=seed,
        checkpoint=work.folder / "checkpoint",
    )
    return predict(model, sets["validation"], settings.precision), sets["validation"].labels


def by_trainer(
    work: Work, task, splits: dict, seed: int, settings: Train
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs on the dev set, and its labels: in the Trainer's order, which groups by length here too."""
    seed_everything(seed)
    options = argparse.Namespace(workers=0, compile=False)
    given = arguments(
        work,
        True,
        options,
        seed=seed,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_eval_batch_size=64,
    )
    trainer = Trainer(
        classifier(work, task),
        given,
        train_dataset=splits["train"],
        processing_class=work.tokenizer,
    )
    trainer.train()
    found = trainer.predict(splits["validation"])
    return found.predictions, found.label_ids


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["sst2", "cola"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "reports" / "bench" / "quality.json",
    )
    options = parser.parse_args()
    os.environ |= {"MTKD_LOG": os.devnull, "TOKENIZERS_PARALLELISM": "false"}
    torch.set_num_threads(options.threads)
    settings = Train(
        optimizer="adamw", learning_rate=options.learning_rate, epochs=options.epochs, bucket=50
    )
    generated, rows = synthetic.generate(seed=0, scale=1.0), []
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder))
        for task in map(tasks.get, options.tasks):
            sets, splits = both_forms(work, task, generated[task.name])
            for seed in range(options.seeds):
                for system, (outputs, labels) in (
                    ("mtkd", by_mtkd(work, task, sets, seed, settings)),
                    ("trainer-tuned", by_trainer(work, task, splits, seed, settings)),
                ):
                    found, _ = score_rows(task, "validation", probabilities(task, outputs), labels)
                    rows += [{"system": system, "seed": seed, **row} for row in found]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    options.out.write_text(
        json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )
    print(table(rows))


def both_forms(work: Work, task, splits) -> tuple[dict, dict]:
    """The train and dev sets as mtkd's examples and as the Trainer's data sets."""
    names = "train", "validation"
    return {name: work.examples(task, splits[name]) for name in names}, {
        name: tokenised(work, task, splits[name]) for name in names
    }


def table(rows: list[dict]) -> str:
    """A Markdown row a task and metric: each system's mean ± deviation, and the paired difference with its interval."""
    lines = [
        "| task | metric | mtkd | Trainer, tuned | difference (95 % interval) |",
        "|---|---|---:|---:|---:|",
    ]
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in rows):
        mine, theirs = (
            np.array(
                [
                    row["value"]
                    for row in sorted(rows, key=lambda row: row["seed"])
                    if (row["task"], row["metric"], row["system"]) == (task, metric, system)
                ]
            )
            for system in ("mtkd", "trainer-tuned")
        )
        gap = mine - theirs
        half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
        cells = (f"{found.mean():.1f} ± {found.std(ddof=1):.1f}" for found in (mine, theirs))
        interval = f"{gap.mean():+.1f} ({gap.mean() - half:+.1f} to {gap.mean() + half:+.1f})"
        lines.append(f"| {task} | {metric} | {' | '.join(cells)} | {interval} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
