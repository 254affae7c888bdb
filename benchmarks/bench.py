"""Compare mtkd's speed on this machine's processor with what one would use instead: `make bench`.

Every contender is a process that is started and warmed up once; in each round all do the same
amount of training or scoring, one after another. mtkd runs as in a study, one single-threaded
process per core; the others get all cores as threads of one process. Print a table, and write
bench.json and speed.png. Nothing else should run meanwhile.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import torch
from contenders import BATCH_SIZE, CONTENDERS, Workload

from mtkd.training.loop import seed_everything

ROOT = Path(__file__).resolve().parent.parent
FORK = multiprocessing.get_context("fork")  # all libraries are imported once
LABELS = {
    "train:mtkd": "mtkd, bf16, one process per core",
    "train:trainer": "Trainer, defaults, fp32",
    "train:trainer-tuned": "Trainer, tuned, bf16",
    "train:plain-loop": "plain loop, fp32",
    "score:mtkd": "mtkd, bf16, one process per core",
    "score:pipeline": "pipeline, fp32",
}


def ratios(rounds: pd.DataFrame) -> pd.DataFrame:
    """Return how many times as fast mtkd is: a row per shape, a column per other contender.

    Args:
        rounds: a row per shape, round and system, with the rate in examples per second.

    Returns:
        Medians over the rounds of the ratio within a round, so that a slow minute counts for both.
    """
    rates = rounds.pivot_table(index=["shape", "round"], columns="system", values="rate")
    others = [name for name in rates if not name.endswith(":mtkd")]
    mtkd = {name: rates[f"{name.split(':')[0]}:mtkd"] for name in others}
    return (
        pd.DataFrame({name: mtkd[name] / rates[name] for name in others}).groupby("shape").median()
    )


class Contender:
    """The processes of one system, which run a round on demand."""

    def __init__(self, system: str, load: Workload, threads: int):
        count = threads if system.endswith(":mtkd") else 1
        examples = load.scored if system.startswith("score") else BATCH_SIZE * load.updates
        self.system, self.examples, self.connections = system, count * examples, []
        for _ in range(count):
            here, there = FORK.Pipe()
            arguments = (there, system, load, threads // count)
            FORK.Process(target=_serve, args=arguments, daemon=True).start()
            there.close()
            self.connections.append(here)

    def rate(self, turn: int) -> float:
        """Run a round; return the examples per second of all processes together."""
        try:
            for connection in self.connections:
                connection.send(turn)
            return self.examples / max(connection.recv() for connection in self.connections)
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"{self.system} ended without a result: see the error above") from None

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def _serve(connection: Connection, system: str, load: Workload, threads: int) -> None:
    torch.set_num_threads(threads)
    os.environ["MTKD_LOG"] = os.devnull
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Trainer prints its logs
    seed_everything(0)
    one_round = CONTENDERS[system](load)
    while True:
        try:
            turn = connection.recv()
        except EOFError:
            return
        connection.send(one_round(turn))


def measure(load: Workload, rounds: int, threads: int) -> list[dict]:
    """Return a row per round and system; round 0 warms up and is not counted."""
    # In a process of its own: torch must not start threads before the contenders are forked.
    writer = FORK.Process(target=load.write_encoder)
    writer.start()
    writer.join()
    rows = []
    with ExitStack() as stack:
        contenders = [Contender(system, load, threads) for system in CONTENDERS]
        for contender in contenders:
            stack.callback(contender.close)
        for turn in range(rounds + 1):
            for contender in contenders:
                row = {"shape": load.shape, "round": turn, "system": contender.system}
                rows.append(row | {"rate": contender.rate(turn)})
            print(f"{load.shape}: round {turn} of {rounds}", file=sys.stderr)
    return [row for row in rows if row["round"]]


def draw(rounds: pd.DataFrame, path: Path) -> None:
    """Draw the median rates with their range, a panel per shape and kind."""
    import seaborn

    about = rounds["system"].str.split(":", expand=True)[0]
    frame = rounds.assign(panel=rounds["shape"] + ", " + about, label=rounds["system"].map(LABELS))
    grid = seaborn.catplot(
        frame,
        kind="bar",
        x="rate",
        y="label",
        col="panel",
        col_wrap=2,
        sharex=False,
        sharey=False,
        estimator="median",
        errorbar=("pi", 100),
        height=2.4,
        aspect=2.2,
    )
    grid.set_axis_labels("examples per second", "").set_titles("{col_name}")
    grid.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=["mini", "small"], help="of the encoder")
    parser.add_argument("--updates", type=int, default=16, help="of a round's training")
    parser.add_argument("--tasks", type=int, default=4, help="of a round's training")
    parser.add_argument("--scored", type=int, default=384, help="examples of a round's scoring")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "bench")
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for shape in options.shapes:
            load = Workload(Path(scratch), shape, options.updates, options.tasks, options.scored)
            rows += measure(load, options.rounds, options.threads)
    rounds = pd.DataFrame(rows)
    times = ratios(rounds)
    versions = {name: version(name) for name in ("torch", "transformers", "mtkd")}
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    results = {"machine": machine, "versions": versions, "ratios": times.to_dict("index")}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results | {"rounds": rows}, indent=1) + "\n"
    (options.out / "bench.json").write_text(text, encoding="utf-8")
    draw(rounds, options.out / "speed.png")
    medians = rounds.groupby(["shape", "system"])["rate"].agg(["median", "min", "max"])
    print(medians.round(0).to_string(), times.round(2).to_string(), options.out, sep="\n\n")


if __name__ == "__main__":
    main()
