"""Progress with loss, examples a second and time left: a bar where somebody looks, lines in a log where nobody does."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


class Progress:
    def __init__(self, tqdm_bar: tqdm):
        self._bar, self._examples, self._loss = tqdm_bar, 0, None
        self._started = time.perf_counter()

    def step(self, examples: int, loss: float) -> None:
        """One step is done; `loss` is shown as a running mean over about 50 steps."""
        self._examples += examples
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        rate = self._examples / max(1e-9, time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"loss {self._loss:.3f}, {rate:.0f} examples/s", refresh=False)
        self._bar.update()


@contextmanager
def bar(title: str, total: int, done: int = 0, hidden: bool = False) -> Iterator[Progress]:
    """A progress bar of `total` steps, `done` of them before a resume.

    In a batch, where MTKD_LOG names a file, a line goes there every few seconds instead, so that pages stay clean.
    Nothing is shown where it is `hidden`.
    """
    log = os.environ.get("MTKD_LOG")
    if log:
        with (
            open(log, "a", encoding="utf-8") as file,
            tqdm(
                total=total,
                initial=done,
                desc=title,
                file=file,
                ascii=True,
                mininterval=10,
                ncols=110,
                disable=hidden,
            ) as shown,
        ):
            yield Progress(shown)
    else:
        with tqdm(
            total=total, initial=done, desc=title, file=sys.stderr, leave=False, disable=hidden
        ) as shown:
            yield Progress(shown)
