"""What a model answered, read strictly: one JSON value of the asked shape, or a reason why not."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from agentmem.language import STOP_WORDS, words

MAX_TEXT_WORDS = 120
"""Of an insight, a lesson, a fact: longer ones are not read to their end."""
_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
MIN_ENGLISH_WORDS = 6


def read_object(text: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON object of an answer (alone, in a code fence, or behind other words), and "" or what is wrong."""
    fenced = _FENCE.match(text)
    body = fenced.group(1) if fenced else text.strip()
    if not body:
        return None, "the answer is empty"
    start = body.find("{")
    if start < 0:
        return None, "the answer holds no JSON object"
    try:
        value, _ = json.JSONDecoder().raw_decode(body, start)
    except (ValueError, RecursionError) as e:
        return None, f"the answer is no complete JSON: {e}"
    return (value, "") if isinstance(value, dict) else (None, "the answer is no JSON object")


def list_of(value: dict[str, Any], name: str, most: int) -> tuple[list[Any], str]:
    """The list in a field, at most `most` of it, and "" or what is wrong."""
    found = value.get(name)
    if not isinstance(found, list):
        return [], f"the answer has no list {name!r}"
    return found[:most], "" if len(found) <= most else f"{len(found) - most} entries of {name!r} beyond {most}"


def text_problem(text: object, cited: Sequence[str], max_words: int = MAX_TEXT_WORDS) -> str:
    """Why a text that rests on cited ones can't be kept; "" when it can: it is a short text, in the script of what it
    cites (and not in another language than English where that is English)."""
    if not isinstance(text, str) or not text.strip():
        return "a text is empty"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "a text has a lone surrogate"
    said = words(text)
    if len(said) > max_words or len(text) > 12 * max_words:
        return f"a text of {len(said)} words (at most {max_words})"
    source = " ".join(cited)
    if strange := _scripts(text) - _scripts(source):
        return f"a text in another script than its sources ({', '.join(sorted(strange)).lower()})"
    english = _share_of_stop_words(source) >= 0.2
    if english and len(said) >= MIN_ENGLISH_WORDS and _share_of_stop_words(text) == 0.0:
        return "a text in another language than its sources"
    return ""


def _scripts(text: str) -> set[str]:
    """The scripts of a text's letters, as Unicode names them ("LATIN", "CYRILLIC", "CJK")."""
    return {unicodedata.name(c, "?").split()[0] for c in set(text) if c.isalpha()} - {"?", "MODIFIER"}


def _share_of_stop_words(text: str) -> float:
    said = [w.lower() for w in words(text)]
    return sum(w in STOP_WORDS for w in said) / len(said) if said else 0.0
