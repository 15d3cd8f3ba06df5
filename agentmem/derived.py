"""Keys and values of what is derived from texts: the key is a digest of all that a value depends on.

Compressed texts and summaries by a model are kept so (embeddings have their own table, by embedder and hash). There is
no threshold and no age: under the same key the same value would be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from agentmem.compression import Spans

FORMAT = 1
"""How values are written: a change is a new number, and what was kept before is not found any more."""
T = TypeVar("T")


def derived_key(kind: str, fingerprint: str, *texts: str, template: str = "") -> bytes:
    """The BLAKE2b-256 digest of what a value was made of: its kind, the fingerprint of the model or algorithm (with
    its settings), the version of the template, and the texts in their order. Different parts give different bytes to
    digest: each stands behind its length."""
    digest = hashlib.blake2b(digest_size=32)
    for part in (f"agentmem-derived-{FORMAT}", kind, fingerprint, template, *texts):
        # Half a surrogate pair is no text, but must not be one key with another.
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def encode(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode(data: bytes | None, read: Callable[[Any], T]) -> T | None:
    """What was kept, taken from its JSON by `read`; None when there is nothing, or it is damaged: no JSON, or none of
    which `read` makes something without a ValueError, TypeError or KeyError."""
    if data is None:
        return None
    try:
        return read(json.loads(data))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def text_of(value: Any) -> str:
    """A text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def spans_of(value: Any, length: int) -> Spans:
    """[[start, end], ...], ascending and apart, within a text of `length` characters. Raises ValueError."""
    last = -1
    spans: list[tuple[int, int]] = []
    if not isinstance(value, list):
        raise ValueError("no list of spans")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or any(type(n) is not int for n in pair):
            raise ValueError("no span")
        start, end = pair
        if not last < start < end <= length:
            raise ValueError("spans that are not ascending parts of the text")
        spans.append((start, end))
        last = end
    return tuple(spans)
