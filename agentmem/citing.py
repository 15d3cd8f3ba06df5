"""What a reply rests on: the citations in a model's text, and a page-in as the event log keeps it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from agentmem.recovery import recovered
from agentmem.times import format_time
from agentmem.types import Answer, Citation, Message, Page

_CITED = re.compile(r"\[([^\[\]\n]{1,200})\]")


def clean(text: str) -> str:
    """A model's text as it can be stored: lone surrogates become U+FFFD, for the turn must not be lost over one."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def cited(text: str, page: Page) -> tuple[Citation, ...]:
    """The paged-in records that a reply names in square brackets."""
    named = {part.strip() for m in _CITED.finditer(text) for part in re.split(r"[,;]", m.group(1))}
    found = [i for i in page.items if i.hit.id in named or (i.hit.key is not None and i.hit.key in named)]
    return tuple(Citation(i.hit.id, i.hit.tier, i.text, i.hit.key) for i in found)


def whole_words(text: str, page: Page | None) -> str:
    """A text in the words of shortened records, with what stood between them there."""
    return text if page is None else recovered(text, [(i.hit.text, i.text) for i in page.items if not i.whole])


def as_said(answer: Answer, page: Page | None) -> Answer:
    """An answer whose span and quotations are as the records say them, where the prompt had them shortened."""
    quoted = tuple(replace(c, text=whole_words(c.text, page)) for c in answer.citations)
    return replace(answer, span=whole_words(answer.span, page), citations=quoted)


def page_payload(user: Message, page: Page) -> dict[str, Any]:
    """A page-in for the event log: refs and scores, no text."""
    items = [
        {"ref": i.hit.id, "score": round(i.hit.score, 4), "whole": i.whole, "parts": dict(i.hit.parts or {})}
        for i in page.items
    ]
    return {"turn": user.id, "asked_at": format_time(user.at), "num_tokens": page.num_tokens, "items": items}
