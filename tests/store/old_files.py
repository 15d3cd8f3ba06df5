"""Taking a file back to what an earlier version left."""

from __future__ import annotations

import sqlite3


def before_compression(connection: sqlite3.Connection) -> None:
    """As before m006."""
    connection.execute("DELETE FROM _sqlite_migrations WHERE name >= 'm006'")
    for table in ("job_changes", "job_answers", "jobs", "record_keys", "derived", "answers"):
        connection.execute(f"DROP TABLE {table}")
    for table, column in (("epochs", "compressed"), ("agents", "derived_bytes"), ("agents", "derived_clears")):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
