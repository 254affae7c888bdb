"""The one exception that users are meant to see, and how a full disk becomes one."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the user can mend; its text is one sentence that says what, where and how.

    The command line prints it without a traceback and exits with status 2. What it quotes from a file or an argument may hold
    anything: line ends and what a terminal would obey are written as escapes, and the middle of a long text is left out.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


def one_line(text: str, most: int = 2000) -> str:
    """The text on one line, printable; of more than `most` characters the first and the last."""
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    return "".join(
        sign if sign.isprintable() else ascii(sign)[1:-1] for sign in " ".join(text.splitlines())
    )


def first_line(error: BaseException, most: int = 140) -> str:
    """What a library's exception says on its first line, with its kind where that says nothing."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return said[:most] if " " in said else f"{type(error).__name__}: {said[:most]}"


# What a path may be wrong in: not there, of the wrong kind, too long, not permitted.
_PATHS = (
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)


@contextmanager
def bad_path_told() -> Iterator[None]:
    """A file or folder that the system refuses in the block becomes a `UserError` with its name and the system's reason."""
    try:
        yield
    except OSError as error:
        if error.errno not in _PATHS or error.filename is None:
            raise
        raise UserError(
            f"{error.filename}: {error.strerror}: correct that path, what stands there, or its permissions."
        ) from error


def no_space(error: BaseException) -> bool:
    """Whether the disk was full, or another error came of handling that one.

    The libraries written in Rust tell the system's error number in words alone, each version in its own.
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    told = [
        words.format(number) for number in full for words in ("(os error {})", "Os {{ code: {},")
    ]
    if getattr(error, "errno", None) in full or any(words in str(error) for words in told):
        return True
    return error.__context__ is not None and no_space(error.__context__)


@contextmanager
def full_disk_told(path: Path | None, variable: str) -> Iterator[None]:
    """A full disk in the block becomes a `UserError` about `path`; `variable` of the environment names its folder.

    Without `path`, about the file that could not be written.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not no_space(error):
            raise
        what = path or getattr(error, "filename", None) or "a file"
        raise UserError(
            f"No space is left on the disk while writing {what}: free some, or set {variable} to a folder on another disk, "
            "and run again; finished stages are kept."
        ) from error
