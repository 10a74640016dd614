#!/usr/bin/env python3
"""How somebody sat: a day or a week of one stream or of all, as an HTML file and a picture, for mail or archive.

    python3 report.py                                       # today, all streams
    python3 report.py --day 2026-11-24 --stream pi1         # report-2026-11-24.html and .png
    python3 report.py --week 2026-11-24 --output week.html  # Monday to Sunday, the page alone
    python3 report.py --day 2026-11-24 --csv                # the rows, too

It reads the database of the settings and changes nothing. Which pictures it shows is up to analyzer.pictures.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from posture import missing_packages

if __name__ == "__main__":
    missing_packages.explain("local")

from posture.errors import FailedError, UserError
from posture.history.as_csv import lines
from posture.history.days import bounds, parse_day, zone_of
from posture.history.opening import open_history
from posture.history.questions import History
from posture.pictures.base import PicturesRefusedError, PicturesUnavailableError
from posture.report.content import Report, gather
from posture.report.local_zone import local_zone
from posture.report.page import as_html
from posture.report.poster import as_poster
from posture.report.writing import output_of, write_files, write_lines
from posture.runtime import EXIT_OK, add_version_flag, keep_files_private, run_script
from posture.settings.flags import add_config_flag, add_setting_flag, settings_with_flags
from posture.settings.paths import database_url
from posture.store.base import StoreRefusedError, StoreUnavailableError


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description="Write how somebody sat, on a day or in a week, to a file.")
    add_version_flag(parser)
    parser.add_argument("--stream", action="append", default=[], metavar="PI_ID",
                        help="a stream; may be given several times (default: all)")  # fmt: skip
    span = parser.add_mutually_exclusive_group()
    span.add_argument("--day", metavar="DAY", help="such as 2026-11-24 (default: today)")
    span.add_argument("--week", metavar="DAY", help="Monday to Sunday, of which this is a day")
    parser.add_argument("--zone", metavar="NAME", help="whose days: Europe/Berlin (default: this machine's zone)")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help=".html or .png; without either it is both (default: report-DAY here)")  # fmt: skip
    parser.add_argument("--csv", action="store_true", help="write the rows beside it, too, as .csv")
    parser.add_argument("--pictures", type=Path, metavar="DIR",
                        help="a folder with the pictures (default: as the settings say)")  # fmt: skip
    add_setting_flag(parser, "--database", "database.url", "where the rows are", metavar="URL")
    add_config_flag(parser)
    return parser.parse_args(argv)


def days_of(flags: argparse.Namespace, today: date) -> tuple[date, date]:
    """Return the first and the last day."""
    if flags.week is None:
        day = today if flags.day is None else parse_day(flags.day)
        return day, day
    day = parse_day(flags.week)
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=6)


def write(report: Report, history: History, output: Path, *, with_csv: bool) -> list[Path]:
    """Write the report's files; return which."""
    files = output_of(output, with_csv=with_csv)
    made = {}
    if files.html is not None:
        made[files.html] = as_html(report)
    if files.png is not None:
        made[files.png] = as_poster(report)
    if files.csv is not None:
        start, end = bounds(report.first, report.zone)[0], bounds(report.last, report.zone)[1]
        rows = (row for stream in report.streams for row in history.rows(stream.pi_id, start, end))
        write_lines(files.csv, lines(rows))
    write_files(made)
    return [path for path in (files.html, files.png, files.csv) if path is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, and print which."""
    flags = parse(argv)
    keep_files_private()
    settings = settings_with_flags(flags)
    zone = zone_of(flags.zone or local_zone())
    now = datetime.now(timezone.utc)
    first, last = days_of(flags, now.astimezone(zone).date())
    output = flags.output or Path(f"report-{first}" if flags.week is None else f"report-week-{first}")
    output_of(output, with_csv=flags.csv)
    database = settings.database
    try:
        history = open_history(database_url(database), key=database.supabase_key, timeout_s=database.timeout_s)
        try:
            report = gather(history, flags.stream, first, last, zone, settings.analyzer, flags.pictures, now)
            written = write(report, history, output, with_csv=flags.csv)
        finally:
            history.close()
    except (StoreRefusedError, PicturesRefusedError) as error:
        raise UserError(str(error)) from None
    except (StoreUnavailableError, PicturesUnavailableError) as error:
        raise FailedError(str(error)) from None
    for path in written:
        print(path)
    return EXIT_OK


if __name__ == "__main__":
    run_script(main)
