"""Errors for users: one printable line, and the system's errors that become one."""

import errno
import os

import pytest

from mtkd.errors import (
    UserError,
    explain_bad_path,
    explain_full_disk,
    first_line,
    is_full_disk,
    one_line,
)


def test_a_user_error_is_one_printable_line():
    assert str(UserError("a\nb\x1b[31m\tc")) == "a b\\x1b[31m\\tc"
    long = one_line("x" * 1500 + "y" * 1500)
    assert len(long) == 2003 and long.startswith("xx") and long.endswith("yy") and " … " in long


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no such repository\nTraceback"), "no such repository"),
        (KeyError("weights"), "KeyError: 'weights'"),
        (ValueError("\n\n  a b  \nc"), "a b"),
        (ValueError(), "ValueError: "),
        (ValueError("a " * 200), "a " * 70),
    ],
)
def test_the_first_line_of_a_library_s_message(error, expected):
    assert first_line(error) == expected


def test_a_bad_path_is_explained(tmp_path):
    message = r"missing: No such file or directory: correct the path"
    with pytest.raises(UserError, match=message), explain_bad_path():
        (tmp_path / "missing").read_text()
    with pytest.raises(ConnectionError), explain_bad_path():
        raise ConnectionResetError(errno.ECONNRESET, "reset")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError('Os { code: 28, kind: StorageFull, message: "No space left" }'),
    ],
)
def test_a_full_disk_is_explained(error):
    message = "while writing here/x: free some, or set MTKD_WORK .*finished stages are kept"
    with pytest.raises(UserError, match=message), explain_full_disk("here/x", "MTKD_WORK"):
        try:
            raise error
        except Exception:
            raise RuntimeError("unexpected position") from None  # as torch hides it
    assert is_full_disk(error)


def test_other_errors_are_raised_as_they_are():
    for error in (PermissionError(errno.EACCES, "denied"), UserError("a (os error 28)")):
        with pytest.raises(type(error)) as caught, explain_full_disk(None, "MTKD_WORK"):
            raise error
        assert caught.value is error
