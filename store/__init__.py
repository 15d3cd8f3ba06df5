"""Bytes on disk: one SQLite file is the truth, everything else is derived from it."""
