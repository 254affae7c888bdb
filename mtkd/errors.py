"""The one exception that users are meant to see, and how a full disk becomes one."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the user can mend; its text is one sentence that says what, where and how.

    The command line prints it without a traceback and exits with status 2.
    """


def no_space(error: BaseException) -> bool:
    """Whether the disk was full, or another error came of handling that one.

    The libraries written in Rust tell the system's error number in words alone.
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full):
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
        raise UserError(f"No space is left on the disk while writing {what}: free some, or set {variable} to a folder on another disk, "
                        "and run again; finished stages are kept.") from error
