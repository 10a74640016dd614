"""The one exception that stands for a mistake of the person at the keyboard."""


class UserError(Exception):
    """Bad input or setup. The message names the file, key and value, and what is accepted.

    Scripts print it as one line on standard error and end with exit status 2; no traceback.
    """
