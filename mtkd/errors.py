"""The exception that users are meant to see, and the system's errors that become one."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """An error that the user can mend; its text is one sentence: what, where, and how to mend it.

    The command line prints it without a traceback and exits with status 2. It may quote anything:
    line ends and control characters are escaped, the middle of a long text is left out.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


def one_line(text: str, limit: int = 2000) -> str:
    """Return the text printable and on one line, without the middle of a long one."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[-limit // 2 :]}"
    return escape(" ".join(text.splitlines()))


def escape(text: str) -> str:
    r"""Return the text with `\x..`, `\u....` or `\U........` for what cannot be printed."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def listed(names: Iterable[str]) -> str:
    """Return names with commas between; in quotes if one holds a comma or outer spaces, or none."""
    names = list(map(str, names))
    plain = all(name and name == name.strip() and "," not in name for name in names)
    return ", ".join(names if plain else map(repr, names))


def first_line(error: BaseException, limit: int = 140) -> str:
    """Return the first line of a library's message, behind the error's kind if it is one word."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text[:limit] if " " in text else f"{type(error).__name__}: {text[:limit]}"


_BAD_PATH = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explain_bad_path() -> Iterator[None]:
    """Raise `UserError` for a path that is missing, not permitted or of the wrong kind."""
    try:
        yield
    except OSError as error:
        if error.errno not in _BAD_PATH or error.filename is None:
            raise
        raise UserError(
            f"{error.filename}: {error.strerror}: correct the path, or the permissions there."
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Return whether the error, or one that it arose from, is that of a full disk.

    Libraries written in Rust give the system's error number in their message alone.
    """
    numbers = [text % n for n in _FULL_DISK for text in ("(os error %d)", "Os { code: %d,")]
    if getattr(error, "errno", None) in _FULL_DISK or any(n in str(error) for n in numbers):
        return True
    return error.__context__ is not None and is_full_disk(error.__context__)


@contextmanager
def explain_full_disk(path: Path | None, variable: str) -> Iterator[None]:
    """Raise `UserError` where the disk is full in the block.

    The message names `path` (None: the file that could not be written) and the environment variable
    that sets its folder.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_full_disk(error):
            raise
        file = path or getattr(error, "filename", None) or "a file"
        raise UserError(
            f"No space is left on the disk while writing {file}: free some, or set {variable} to a "
            "folder on another disk, and run again; finished stages are kept."
        ) from error
