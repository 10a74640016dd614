#!/usr/bin/env python3
"""Make the broker's users: one for each camera and each analyzer, with a password and its own topics only.

    python3 broker_identities.py             # for the streams of cluster.yaml, into broker/
    python3 broker_identities.py pi3         # for one more
    python3 broker_identities.py --dir /etc/mosquitto/farm --prefix lab pi1 pi2

broker/mosquitto/ is for the broker (docs/broker.md), broker/camera-pi1/ for a camera, broker/analyzer-pi1/ for its
analyzer. What is there already is kept, so that it may be run again at any time. To replace a password, delete
its file and run this again. No password is ever printed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("scheduler")

from posture.natural_order import some_of
from posture.runtime import EXIT_OK, add_version_flag, run_script, setup_logging
from posture.settings import streams
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags
from posture.wire.identities import provision, streams_in


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Make the broker's users, passwords and access list.")
    parser.add_argument("streams", nargs="*", metavar="PI_ID", help="streams (default: those of the farm)")
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
    names = [streams.checked(name) for name in flags.streams or streams.names(settings)]
    # its analyzer may still run
    kept = [name for name in streams_in(flags.dir) if settings.streams and name not in settings.streams]
    if kept and not flags.streams:
        print(
            f"kept: users of {some_of(kept)}, which streams of cluster.yaml does not have; build_and_push.py takes "
            "them away with the stream, or delete their folders and run this again"
        )
    users = provision(flags.dir, names, settings.mqtt.prefix, home_assistant=settings.dashboard.home_assistant)
    for one in users:
        print(f"{one.user}  {flags.dir / one.folder}")
    print(
        f"broker: password_file {flags.dir / 'mosquitto' / 'passwords'}, acl_file {flags.dir / 'mosquitto' / 'acl'}"
    )
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
