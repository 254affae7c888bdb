"""The one exception that users are meant to see."""


class UserError(Exception):
    """Something the user can mend; its text is one sentence that says what, where and how.

    The command line prints it without a traceback and exits with status 2.
    """
