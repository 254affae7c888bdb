"""Cost against size: examples, tasks and teachers, in processor seconds and peak memory, each point in its own process.

    python benchmarks/growth.py run                   # up to a million examples, a few minutes
    python benchmarks/growth.py run --examples 10000000  # ten million: about 5 GB of disk, removed at the end

Writes growth.json, growth.csv and the figure growth.png and .svg to reports/bench. The tasks are generated sentences,
the encoder is a BERT of one small layer: what is measured is how cost grows, not how high it is. A point goes through
the stages' own functions: the file is read, checked and counted (data), tokenised (tokens), an epoch is planned (plan),
`STEPS` mini-batches are trained on (train), and every train example gets its soft targets (teach).
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer

STEPS = 128  # mini-batches of 32 in the phase train, shared by the tasks
FEW = 20_000  # train examples where the number of teachers grows
EACH = 2_000  # train examples of a task where the number of tasks grows
PHASES = {
    "data": "read, check, count",
    "tokens": "tokenise",
    "plan": "plan an epoch",
    "train": f"{STEPS} mini-batches",
    "teach": "soft targets",
}
AXES = {
    "examples": "train examples (1 task, 1 teacher)",
    "tasks": f"tasks ({EACH:,} examples each)",
    "teachers": f"teachers ({FEW:,} examples)",
}
SYLLABLES = (
    list("bdfgklmnprstvz"),
    ["a", "e", "i", "o", "u", "an", "el", "ir"],
    ["", "no", "ta", "kel", "rim"],
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def sentences(path: Path, count: int, seed: int) -> None:
    """A Parquet file of sentences of 4 to 9 made-up words and one of two labels, written some at a time."""
    random = np.random.default_rng(seed)
    words = np.array(["".join(parts) for parts in itertools.product(*SYLLABLES)])
    with pq.ParquetWriter(path, pa.schema({"text": pa.string(), "label": pa.int8()})) as file:
        for first in range(0, count, 100_000):
            size = min(100_000, count - first)
            drawn = words[random.integers(len(words), size=(size, 9))]
            texts = [
                " ".join(row[:length])
                for row, length in zip(
                    drawn.tolist(), random.integers(4, 10, size).tolist(), strict=True
                )
            ]
            file.write_table(
                pa.table(
                    [pa.array(texts), pa.array(random.integers(2, size=size).astype("int8"))],
                    schema=file.schema,
                )
            )


def encoder(folder: Path, texts: Path) -> None:
    """A BERT of one layer drawn at random, with a tokenizer for these sentences."""
    import torch
    from transformers import BertConfig, BertModel

    from mtkd.training.mlm import train_tokenizer

    tokenizer = train_tokenizer(
        pq.read_table(texts)["text"].to_pylist()[:5000], cased=False, vocab_size=1000
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Phases:
    """Processor seconds and the peak of memory of each phase of a process."""

    def __init__(self):
        self.rows: list[dict] = []
        self._peak = [0, 0]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            found = process.memory_info()
            # Pages of memory-mapped files count as resident while there is room, and give way where there is none.
            now = [found.rss, found.rss - getattr(found, "shared", 0)]
            self._peak = [max(pair) for pair in zip(self._peak, now, strict=True)]
            time.sleep(0.01)

    @contextmanager
    def phase(self, name: str):
        self._peak = [0, 0]
        started, wall = time.process_time(), time.perf_counter()
        yield
        time.sleep(0.03)
        spent = {
            "cpu_seconds": round(time.process_time() - started, 3),
            "wall_seconds": round(time.perf_counter() - wall, 3),
        }
        self.rows.append(
            {
                "phase": name,
                **spent,
                "resident_mb": self._peak[0] >> 20,
                "own_mb": self._peak[1] >> 20,
            }
        )


@app.command(hidden=True)
def point(axis: str, size: int, folder: Path) -> None:
    """Measures one point in this process and prints its rows as JSON."""
    tasks, teachers = (size if axis == which else 1 for which in ("tasks", "teachers"))
    count = {"examples": size, "tasks": EACH, "teachers": FEW}[axis]
    names = [f"t{number}" for number in range(tasks)]
    for number, name in enumerate(names):
        sentences(folder / f"{name}.parquet", count, number)
    sentences(folder / "dev.parquet", 1000, 10_000)
    encoder(folder / "bert", folder / "dev.parquet")
    os.environ["MTKD_WORK"] = str(folder / "work")

    import torch
    from accelerate import Accelerator

    from mtkd.artifacts import make
    from mtkd.config.study import check
    from mtkd.stages import common as stages
    from mtkd.stages import inputs as encoders
    from mtkd.stages.ensemble import soft_targets
    from mtkd.training import loop as training
    from mtkd.training.soft_targets import read_soft_targets, write_soft_targets

    torch.set_num_threads(1)
    own = {
        name: {
            "type": "single",
            "train": str(folder / f"{name}.parquet"),
            "dev": str(folder / "dev.parquet"),
            "columns": ["text"],
            "labels": ["no", "yes"],
        }
        for name in names
    }
    study = check(
        {
            "name": "growth",
            "own_tasks": own,
            "data": {"max_length": 64},
            "train": {"precision": "fp32"},
            "encoders": {"small": {"checkpoint": str(folder / "bert")}},
            "student_encoder": "small",
            "candidates": {"ensemble_size": 1},
        }
    )
    of, phases = [study.task(name) for name in names], Phases()
    start = encoders.encoder(study, "small")
    with phases.phase("data"):
        stages.data(study)
    with phases.phase("tokens"):
        encoders.tokens(study, "small")
    with phases.phase("plan"):
        examples = {task.name: encoders.examples_of(study, "small", task, "train") for task in of}
        batches = training.plan(examples, study.train, 0, 0)
    with phases.phase("train"):
        model = encoders.new_model(study, start, of, 0.1)
        optimizer, accelerator = training.optimizer_of(model, study.train), Accelerator(cpu=True)
        for task, rows in batches[:STEPS]:
            batch = examples[task].batch(rows)
            training.step_on(
                model, batch, study.task(task), optimizer, accelerator, study.train, study.distil
            )
    del batches, batch, optimizer
    kept = make(folder / "model", {}, lambda out: model.save(out / "model.safetensors"))
    with phases.phase("teach"):
        for task in of:
            voices = [
                ("small", 0.1, start, kept, f"teacher{number}", of) for number in range(teachers)
            ]
            path = folder / f"{task.name}-soft.parquet"
            write_soft_targets(path, (targets for targets, *_ in soft_targets(study, task, voices)))
            soft = read_soft_targets(path, task).for_examples(examples[task.name])
            assert len(soft) == count
    typer.echo(json.dumps([{"axis": axis, "size": size, **row} for row in phases.rows]))


@app.command()
def run(
    examples: Annotated[list[int], typer.Option(help="Numbers of train examples.")] = [
        10**4,
        10**5,
        10**6,
    ],  # noqa: B006
    tasks: Annotated[list[int], typer.Option(help="Numbers of tasks.")] = [1, 4, 16, 64],  # noqa: B006
    teachers: Annotated[list[int], typer.Option(help="Numbers of teachers.")] = [1, 4, 16],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("reports/bench"),
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for the generated files; emptied at the end.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the other points of an earlier run.")
    ] = False,
) -> None:
    """Measures every point, then writes the figures and the figure."""
    from mtkd.artifacts import provenance
    from mtkd.report.style import save

    out.mkdir(parents=True, exist_ok=True)
    rows = json.loads((out / "growth.json").read_text())["rows"] if add else []
    for axis, sizes in (("examples", examples), ("tasks", tasks), ("teachers", teachers)):
        for size in sizes:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                environment = os.environ | {
                    "OMP_NUM_THREADS": "1",
                    "TOKENIZERS_PARALLELISM": "false",
                }
                done = subprocess.run(
                    [sys.executable, __file__, "point", axis, str(size), folder],
                    env=environment,
                    text=True,
                    capture_output=True,
                )
            if done.returncode:
                raise SystemExit(f"{axis} {size}: {done.stderr[-2000:]}")
            rows = [row for row in rows if (row["axis"], row["size"]) != (axis, size)] + json.loads(
                done.stdout.splitlines()[-1]
            )
            print(f"{axis} {size:,}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    frame = pd.DataFrame(rows).sort_values(["axis", "size"], kind="stable")
    (out / "growth.json").write_text(
        json.dumps({"made_by": provenance(), "rows": frame.to_dict("records")}, indent=1) + "\n"
    )
    frame.to_csv(out / "growth.csv", index=False)
    save(figure(frame), out / "growth")
    print(
        frame.pivot_table(index=["axis", "size"], columns="phase", values="cpu_seconds")[
            list(PHASES)
        ].to_string()
    )
    print(frame.groupby(["axis", "size"])[["resident_mb", "own_mb"]].max().to_string())


def figure(frame: pd.DataFrame):
    """Above, processor seconds by phase; below, the peak of memory; a column an axis."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    from mtkd.report.style import blank, styled

    tints = dict(zip(PHASES, ("#7a7a7a", "#0072b2", "#cc79a7", "#009e73", "#d55e00"), strict=True))
    shapes = dict(zip(PHASES, "sovD^", strict=True))

    def plain(value: float, _=None) -> str:
        """10k and 10M for ten thousand and ten million."""
        power, letter = next(
            ((power, letter) for power, letter in ((1e6, "M"), (1e3, "k")) if value >= power),
            (1, ""),
        )
        return f"{value / power:g}{letter}"

    @styled
    def draw():
        found = blank(11, 6.4)
        present = [axis for axis in AXES if axis in set(frame["axis"])]
        panels = found.subplots(2, len(present), sharey="row", squeeze=False)
        for column, axis in enumerate(present):
            part = frame[frame["axis"] == axis]
            above, below = panels[:, column]
            for phase, words in PHASES.items():
                line = part[part["phase"] == phase]
                above.plot(
                    line["size"],
                    line["cpu_seconds"],
                    f"{shapes[phase]}-",
                    color=tints[phase],
                    label=words,
                )
            ends = np.array([part["size"].min(), part["size"].max()])
            whole = part.groupby("size")["cpu_seconds"].sum()
            above.plot(
                ends,
                1.6 * whole.iloc[-1] * ends / ends[-1],
                ":",
                color="#999999",
                label="slope of linear growth",
            )
            most = part.groupby("size")[["resident_mb", "own_mb"]].max()
            below.plot(
                most.index,
                most["resident_mb"],
                "o-",
                color="#0072b2",
                label="resident, with pages of mapped files",
            )
            below.plot(most.index, most["own_mb"], "D-", color="#d55e00", label="the process's own")
            below.axhline(2048, color="#999999", linestyle="--", linewidth=1, label="2 GB")
            for axes in (above, below):
                axes.set_xscale("log")
                axes.set_xticks(sorted(set(part["size"])))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(plain))
            above.set_yscale("log")
            above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            below.set_ylim(0, max(2300, 1.1 * frame["resident_mb"].max()))
            below.set_xlabel(AXES[axis])
        panels[0, 0].set_ylabel("processor seconds (log)")
        panels[1, 0].set_ylabel("peak memory, MB")
        panels[0, 0].set_title("Cost against size", loc="left")
        found.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
        found.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        largest = (
            frame.loc[frame["axis"] == "examples", "size"].max() if "examples" in present else 0
        )
        found.set_label(
            f"Processor seconds and peak memory against examples (up to {largest:,}), tasks and teachers: "
            f"at most {frame['resident_mb'].max():,} MB resident."
        )
        return found

    return draw()


if __name__ == "__main__":
    app()
