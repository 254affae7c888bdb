"""Progress of a training: a bar in a terminal or notebook, lines in a log file in a batch."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


class Progress:
    """A bar with the loss and the examples per second behind it."""

    def __init__(self, tqdm_bar: tqdm):
        self._bar, self._examples, self._loss = tqdm_bar, 0, None
        self._started = time.perf_counter()

    def step(self, examples: int, loss: float) -> None:
        """Advance by one step; the loss is shown as a running mean over about 50 steps."""
        self._examples += examples
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        rate = self._examples / max(1e-9, time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"loss {self._loss:.3f}, {rate:.0f} examples/s", refresh=False)
        self._bar.update()


@contextmanager
def bar(title: str, total: int, done: int = 0, hidden: bool = False) -> Iterator[Progress]:
    """Show a bar of `total` steps, `done` of them before a resume.

    In a batch, where MTKD_LOG names a file, a line is written there every few seconds instead.
    """
    options = {"desc": title, "total": total, "initial": done, "disable": hidden}
    if log := os.environ.get("MTKD_LOG"):
        options |= {"ascii": True, "mininterval": 10, "ncols": 110}
        with open(log, "a", encoding="utf-8") as file, tqdm(file=file, **options) as shown:
            yield Progress(shown)
    else:
        with tqdm(leave=False, **options) as shown:
            yield Progress(shown)
