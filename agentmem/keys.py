"""The texts under which a record is found: its keys. The value is always the whole record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from agentmem.language import content_words, sentences
from agentmem.types import Message, Passage

# About 200 word pieces of English; the packaged embedder reads 256.
CHUNK_BYTES = 900
# What lies beyond (some 57 kB) is found by its words alone.
MAX_PARTS = 64
# The numbers of the parts say what a key is: chunks from 0 on, sentences, the message with the end of the one before,
# and further keys that were set (`agentmem.reflection`).
SENTENCE_PART = 1000
CONTEXT_PART = 2000
KEY_PART = 3000
MAX_KEYS = 16
"""Further keys of one record."""
# "Thanks, Mel!" finds nothing: leaving those out was measured to cost nothing, and saves a third of the sentences.
MIN_SENTENCE_WORDS = 3
MAX_SENTENCES = 32
CONTEXT_CHARS = 400


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


def follows(message: Message, previous: Message | None) -> bool:
    """Whether a message goes on from the one before it: people talking to each other in one session.

    What a model says is long, and says its own words: beside it, a person's message is better taken alone.
    """
    return (
        previous is not None
        and previous.id == message.id - 1
        and previous.session == message.session
        and message.role == previous.role == "user"
        and message.searchable
        and previous.searchable
    )


def message_keys(message: Message, previous: Message | None = None) -> list[tuple[int, str]]:
    """(part, text) of every key: who says it and what is said, a long message in chunks; what a person says in
    several sentences also by sentence; and what goes on from the message before also with that one's end."""
    prefix = f"{message.name}: " if message.name else ""
    said = message.said
    spans = chunk_spans(said)
    keys = [(n, f"{prefix}{said[s:e]}") for n, (s, e) in enumerate(spans)]
    if len(spans) == 1 and message.role == "user":
        keys += _by_sentence(said, prefix)
        if previous is not None and follows(message, previous):
            before = f"{previous.name}: " if previous.name else ""
            keys.append((CONTEXT_PART, f"{before}{previous.said[-CONTEXT_CHARS:]}\n{prefix}{said}"))
    return keys


def passage_keys(passage: Passage) -> list[tuple[int, str]]:
    """(part, text) of every key: the text, a long one in chunks; one of several sentences also by sentence."""
    spans = chunk_spans(passage.text)
    keys = [(n, passage.text[s:e]) for n, (s, e) in enumerate(spans)]
    return keys + (_by_sentence(passage.text, "") if len(spans) == 1 else [])


def further_keys(keys: Sequence[str]) -> list[tuple[int, str]]:
    """(part, text) of the further keys that were set for a record."""
    return list(enumerate(keys, KEY_PART))


@lru_cache(maxsize=4096)
def part_spans(text: str) -> Mapping[int, tuple[int, int]]:
    """Which characters of a record's text each of its keys stands for, by part; the key with the message before it
    and further keys apart."""
    spans = chunk_spans(text)
    found = dict(enumerate(spans))
    return found | dict(enumerate(_telling(text), SENTENCE_PART)) if len(spans) == 1 else found


def _by_sentence(text: str, prefix: str) -> list[tuple[int, str]]:
    return [(SENTENCE_PART + n, f"{prefix}{text[s:e]}") for n, (s, e) in enumerate(_telling(text))]


def _telling(text: str) -> list[tuple[int, int]]:
    spans = sentences(text)
    if len(spans) < 2:
        return []
    return [(s, e) for s, e in spans if len(content_words(text[s:e])) >= MIN_SENTENCE_WORDS][:MAX_SENTENCES]


def key_hash(text: str) -> bytes:
    """Names an embedding: 16 bytes of BLAKE2b over the text."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
