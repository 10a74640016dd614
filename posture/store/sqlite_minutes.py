"""Minutes in SQLite: triggers count a row in its minute as it is written, and take the minute away with its rows.

They are in the file itself, so that they hold whoever writes, and in the same transaction. A frame that comes again
makes no row, so it fires no trigger. What the columns mean is said at ``posture.store.base.MINUTE_COLUMNS``.
"""

from __future__ import annotations

import logging
import sqlite3

from posture.store.base import MINUTE_COLUMNS, MINUTE_KEY, MINUTES_TABLE, STATES, TABLE

log = logging.getLogger(__name__)

# A camera's clock may be wrong: it counts only where it is near the time of receipt.
MOMENT = """CASE
    WHEN julianday({0}captured_time) BETWEEN julianday({0}received_time) - 7
        AND julianday({0}received_time) + 1.0 / 1440
    THEN {0}captured_time ELSE {0}received_time END"""
# strftime rounds to milliseconds, which may be the next second; times of the first deployments have no offset.
SECOND = """CAST(strftime('%s',
    CASE WHEN moment LIKE '%+00:00' THEN substr(moment, 1, 19) ELSE moment END
) AS INTEGER)"""
STATE = """CASE
    WHEN {0}posture_status IN ('Good', 'Bad') THEN lower({0}posture_status)
    WHEN {0}landmarks_detected THEN 'unknown'
    WHEN coalesce({0}reason, 'no_person') = 'no_person' THEN 'away' ELSE '' END"""
OR_ED = [f"{state}_seconds" for state in STATES]
ADDED = [name for name in MINUTE_COLUMNS if name not in MINUTE_KEY and name not in OR_ED]


def _counting(source: str, row: str = "") -> str:
    """Return the statement that adds rows to their minutes.

    Args:
        source: the rows, as a FROM clause; empty in a trigger.
        row: what comes before a column's name, ``NEW.`` in a trigger.
    """
    changes = [f"{name} = {name} | excluded.{name}" for name in OR_ED]
    changes += [f"{name} = {name} + excluded.{name}" for name in ADDED]
    return f"""
        INSERT INTO {MINUTES_TABLE} ({", ".join(MINUTE_COLUMNS)})
        SELECT pi_id, second / 60,
            {", ".join(f"(state = '{state}') << (59 - second % 60)" for state in STATES)},
            {", ".join(f"state = '{state}'" for state in STATES)},
            neck IS NOT NULL, body IS NOT NULL, coalesce(neck, 0.0), coalesce(body, 0.0)
        FROM (SELECT *, {SECOND} AS second FROM (
            SELECT {row}pi_id AS pi_id, {row}neck_angle AS neck, {row}body_angle AS body,
                {MOMENT.format(row)} AS moment, {STATE.format(row)} AS state
            {source}
        )) WHERE pi_id IS NOT NULL AND second IS NOT NULL
        ON CONFLICT ({", ".join(MINUTE_KEY)}) DO UPDATE SET {", ".join(changes)}
    """  # noqa: S608 - names of ours


def keep_minutes(db: sqlite3.Connection) -> None:
    """Make table and triggers where they are not there yet, and count the rows that are.

    In the caller's transaction, so that no row comes in between.
    """
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (f"{MINUTES_TABLE}_counted",)).fetchone():
        return
    types = {"pi_id": "TEXT", "neck_sum": "REAL", "body_sum": "REAL"}
    columns = ", ".join(f"{name} {types.get(name, 'INTEGER')} NOT NULL" for name in MINUTE_COLUMNS)
    db.execute(f"DROP TABLE IF EXISTS {MINUTES_TABLE}")
    db.execute(f"CREATE TABLE {MINUTES_TABLE} ({columns}, PRIMARY KEY ({', '.join(MINUTE_KEY)})) WITHOUT ROWID")
    if db.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").fetchone():  # noqa: S608
        log.info("database: the minutes of its rows are counted, once")
        db.execute(_counting(f"FROM {TABLE}"))
    db.execute(f"""
        CREATE TRIGGER {MINUTES_TABLE}_counted AFTER INSERT ON {TABLE} BEGIN {_counting("", "NEW.")}; END
    """)
    # In a minute that has lost a row the others would count for less or for more than they were.
    db.execute(f"""
        CREATE TRIGGER {MINUTES_TABLE}_gone AFTER DELETE ON {TABLE} BEGIN
            DELETE FROM {MINUTES_TABLE} WHERE pi_id = OLD.pi_id AND minute = (
                SELECT {SECOND} / 60 FROM (SELECT {MOMENT.format("OLD.")} AS moment)
            );
        END
    """)  # noqa: S608
