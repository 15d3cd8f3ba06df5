"""The texts under which a record is found: its keys. The value is always the whole record."""

from __future__ import annotations

import hashlib

from agentmem.language import sentences
from agentmem.types import Message, Passage

# About 200 word pieces of English; the packaged embedder reads 256.
CHUNK_BYTES = 900
# What lies beyond (some 57 kB) is found by its words alone.
MAX_PARTS = 64


def chunk_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of at most about `CHUNK_BYTES` bytes that cover the text, at sentence ends where possible."""
    if len(text.encode("utf-8", "replace")) <= CHUNK_BYTES + 100:
        return [(0, len(text))]
    pieces: list[tuple[int, int]] = []
    for start, end in _long(text):
        while end - start > 0:
            stop = end
            if len(text[start:end].encode("utf-8", "replace")) > CHUNK_BYTES:
                # Halved until it fits: a sentence without an end, or one of four-byte signs.
                stop = start + CHUNK_BYTES
                while len(text[start:stop].encode("utf-8", "replace")) > CHUNK_BYTES:
                    stop = start + (stop - start) // 2
                space = text.rfind(" ", start + 1, stop)
                stop = space + 1 if space > start else stop
            pieces.append((start, stop))
            start = stop
            if len(pieces) > 40 * MAX_PARTS:
                break
    spans: list[tuple[int, int]] = []
    size = 0
    for start, end in pieces:
        bytes_here = len(text[start:end].encode("utf-8", "replace"))
        if spans and size + bytes_here <= CHUNK_BYTES:
            spans[-1] = (spans[-1][0], end)
            size += bytes_here
        else:
            spans.append((start, end))
            size = bytes_here
    return spans[:MAX_PARTS]


def _long(text: str) -> list[tuple[int, int]]:
    # The sentence splitter is not asked about a megabyte: what lies behind the last part is not embedded anyway.
    head = text[: CHUNK_BYTES * MAX_PARTS]
    found = sentences(head)
    if not found:
        return [(0, len(head))]
    starts = [0, *(s for s, _ in found[1:])]
    return list(zip(starts, [*starts[1:], len(head)], strict=True))


def message_keys(message: Message) -> list[str]:
    """Who says it and what is said; a long message has one key a chunk."""
    prefix = f"{message.name}: " if message.name else ""
    said = message.said
    return [f"{prefix}{said[s:e]}" for s, e in chunk_spans(said)]


def passage_keys(passage: Passage) -> list[str]:
    """The text; a long passage has one key a chunk."""
    return [passage.text[s:e] for s, e in chunk_spans(passage.text)]


def key_hash(text: str) -> bytes:
    """Names an embedding: 16 bytes of BLAKE2b over the text."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
