"""The recursive summary of what left the queue, without a model (`agentmem.summarising` has the one by a model).

It lists the most telling lines of what was evicted, each with its id, and forgets its oldest lines when
it is full; the covered range of message ids is kept in the epoch, so that nothing becomes unreachable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentmem.language import content_words, is_question, sentences
from agentmem.protocols import TokenCounter
from agentmem.times import day_words
from agentmem.tokens import cut_text
from agentmem.types import Message

_CAPITAL = re.compile(r"(?<!^)\b[A-Z][a-z]+")
_DIGIT = re.compile(r"\d")
MAX_LINE_CHARS = 160


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary, and whether a model wrote it."""

    text: str
    by_model: bool


Summarise = Callable[[str, Sequence[Message], int, TokenCounter], Summary]
"""(previous summary, evicted messages, most tokens, counter) -> the new summary, at most that long."""


def told(messages: Sequence[Message]) -> list[Message]:
    """The messages that say something."""
    return [m for m in messages if m.role in ("user", "assistant") and m.said.strip()]


def _telling(message: Message) -> tuple[float, str]:
    """How much a message's best sentence tells: names, numbers and rare words against its length."""
    best = (-1.0, "")
    text = message.said[:4000]
    for start, end in sentences(text):
        sentence = text[start:end].strip()
        if len(sentence) > MAX_LINE_CHARS:
            sentence = sentence[: MAX_LINE_CHARS - 3].rsplit(" ", 1)[0] + "..."
        words = content_words(sentence)
        score = len(set(words)) + 2.0 * len(_CAPITAL.findall(sentence)) + 2.0 * len(_DIGIT.findall(sentence)[:4])
        if is_question(sentence):
            score *= 0.3
        best = max(best, (score / (4 + len(words)), " ".join(sentence.split())), key=lambda pair: pair[0])
    return best


def without_model(previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter) -> Summary:
    """Lines of the evicted messages, the most telling ones, under a line that says what they are taken from."""
    said = told(evicted)
    old = [line for line in previous.splitlines() if line.startswith("- ")]
    if not said:
        return Summary(within(previous, max_tokens, counter), by_model=False)
    names = list(dict.fromkeys(m.name or m.role for m in said))[:4]
    head = f"Until {day_words(said[-1].at)} {' and '.join(names)} said, among other things:"
    room = max_tokens - counter.count(head)
    ranked = sorted(((*_telling(m), m) for m in said), key=lambda t: (-t[0], t[2].id))
    fresh: list[tuple[int, str]] = []
    # New lines may take half of the room, the old ones get the rest; then the new ones take what is left over.
    used = 0
    limit = room if not old else room // 2
    for _, sentence, message in ranked[:40]:
        line = f"- {message.key or message.ref} {message.name or message.role}: {sentence}"
        cost = counter.count(line)
        if sentence and used + cost <= limit:
            fresh.append((message.id, line))
            used += cost
    kept: list[str] = []
    for line in reversed(old):
        cost = counter.count(line)
        if used + cost > room:
            break
        kept.append(line)
        used += cost
    text = "\n".join([head, *reversed(kept), *(line for _, line in sorted(fresh))])
    return Summary(within(text, max_tokens, counter), by_model=False)


def within(text: str, max_tokens: int, counter: TokenCounter) -> str:
    """The start of a text that costs at most `max_tokens`."""
    return text[: cut_text(text, max_tokens, counter)].rstrip()
