"""What the batch doors give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did. `conflicts`: a key that exists with other content (the first stays);
    `malformed`: lines that could not be read, each with its number and the reason."""

    read: int
    stored: int
    skipped: int
    conflicts: tuple[Mapping[str, Any], ...] = ()
    malformed: tuple[Mapping[str, Any], ...] = ()
