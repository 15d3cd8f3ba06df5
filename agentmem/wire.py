"""The lines that come in from files: what a message and a query look like. Validated by pydantic, which loads here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MessageLine(BaseModel):
    """A line of a history file; only `role` and `content` are required, other fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: str
    content: str
    id: str | None = None
    session: str | None = None
    name: str | None = None
    at: str | None = None


class QueryLine(BaseModel):
    """A line of a query file; `at` is when it is asked, other fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    query: str
    id: str | int | None = None
    at: str | None = None
