"""The exceptions that end a script with a message: the operator's mistake, and what failed around us."""


class UserError(Exception):
    """Bad input or setup. The message names the file, key and value, and what is accepted.

    Scripts print it as one line on standard error and end with exit status 2; no traceback.
    """


class FailedError(Exception):
    """Something outside (a program, the cluster) did not do what it had to; the message says what, and what to do.

    Scripts print it and end with exit status 1; no traceback.
    """
