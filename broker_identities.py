#!/usr/bin/env python3
"""Make the broker's users: one for each camera and each analyzer, with a password and its own topics only.

    python3 broker_identities.py             # for the streams of posture-job-*.yaml, into broker/
    python3 broker_identities.py pi3         # for one more
    python3 broker_identities.py --dir /etc/mosquitto/farm --prefix lab pi1 pi2

broker/mosquitto/ is for the broker (docs/broker.md), broker/camera-pi1/ for a camera, broker/analyzer-pi1/ for its
analyzer. What is there already is kept, so that it may be run again at any time. To replace a password, delete
its file and run this again. No password is ever printed.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.errors import UserError
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags
from posture.settings.parsers import PI_ID
from posture.wire.identities import provision


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Make the broker's users, passwords and access list.")
    parser.add_argument(
        "streams", nargs="*", metavar="PI_ID", help="streams (default: those of posture-job-*.yaml)"
    )
    add_version_flag(parser)
    add_config_flag(parser)
    parser.add_argument(
        "--dir", type=Path, default=HERE / "broker", help="where they are kept (default: broker here)"
    )
    add_setting_flag(parser, "--prefix", "mqtt.prefix", "the farm's topic prefix")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing, and say where it is."""
    flags = parse(argv)
    setup_logging()
    settings = settings_with_flags(flags)
    wrong = [name for name in flags.streams if not PI_ID.fullmatch(name)]
    if wrong:
        raise UserError(f"{wrong[0]!r} is no stream's name; accepted: a-z, 0-9 and -, up to 32")
    streams = flags.streams or [
        match[1] for path in HERE.glob("*.yaml") if (match := re.fullmatch(r"posture-job-(.+)\.yaml", path.name))
    ]
    users = provision(flags.dir, streams, settings.mqtt.prefix, home_assistant=settings.dashboard.home_assistant)
    for one in users:
        print(f"{one.user}  {flags.dir / one.folder}")
    print(
        f"broker: password_file {flags.dir / 'mosquitto' / 'passwords'}, acl_file {flags.dir / 'mosquitto' / 'acl'}"
    )
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
