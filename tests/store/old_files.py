"""Taking a file back to what an earlier version left."""

from __future__ import annotations

import sqlite3


def before_compression(connection: sqlite3.Connection) -> None:
    """As before m006, but for its record."""
    for table in ("derived", "answers"):
        connection.execute(f"DROP TABLE {table}")
    for table, column in (("epochs", "compressed"), ("agents", "derived_bytes"), ("agents", "derived_clears")):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
