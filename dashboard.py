#!/usr/bin/env python3
"""The farm's page: all streams, their history, and where they run. It only reads, and nothing depends on it.

    python3 dashboard.py                            # http://127.0.0.1:8470/, for this machine alone
    python3 dashboard.py --add-user ada --role operator      # asks for a password; run it once for each user
    python3 dashboard.py --listen :8470                      # for other machines, too: who looks logs in

Its first line says where the page is.
"""

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("dashboard")

from posture.dashboard import passwords
from posture.dashboard.serving import serve
from posture.errors import UserError
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings.flags import add_config_flag, add_setting_flag, edited_streams, settings_with_flags
from posture.settings.paths import path_of


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Show the farm on a page.")
    add_version_flag(parser)
    add_config_flag(parser)
    add_setting_flag(parser, "--listen", "dashboard.listen", "where the page is served", metavar="HOST:PORT")
    add_setting_flag(parser, "--users-file", "dashboard.users_file", "who may log in", metavar="FILE")
    parser.add_argument("--add-user", metavar="NAME", help="add a user to the file, or change one, and end")
    parser.add_argument("--role", default="viewer", help="of that user: viewer or operator (default: viewer)")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser.parse_args(argv)


def asked_password() -> str:
    """Return a password that is typed twice; from a pipe it is one line.

    Raises:
        UserError: the two differ.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise UserError("the two passwords differ; nothing was changed")
    return password


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until SIGTERM or Ctrl-C, or add a user."""
    flags = parse(argv)
    setup_logging(flags.debug)
    settings = settings_with_flags(flags)
    if flags.add_user is None:
        serve(settings, edited_streams(flags, settings))
        return EXIT_OK
    if not settings.dashboard.users_file:
        raise UserError(
            "--add-user: dashboard.users_file names no file; accepted: that setting, or --users-file FILE"
        )
    path = path_of(settings.dashboard.users_file)
    passwords.check(path, flags.add_user, flags.role)
    passwords.add(path, flags.add_user, flags.role, asked_password())
    print(f"{flags.add_user} may log in as {flags.role}; {path}")
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
