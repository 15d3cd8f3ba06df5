"""The recursive summary of what left the queue: by a model, or without one.

Without a model it lists the most telling lines of what was evicted, each with its id, and forgets its oldest lines when
it is full; the covered range of message ids is kept in the epoch, so that nothing becomes unreachable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentmem import prompts
from agentmem.errors import BackendError
from agentmem.language import content_words, is_question, sentences
from agentmem.protocols import Backend, TokenCounter
from agentmem.times import day_words
from agentmem.tokens import cut_text
from agentmem.types import ChatMessage, Message, Request

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


def _said(messages: Sequence[Message]) -> list[Message]:
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
    said = _said(evicted)
    old = [line for line in previous.splitlines() if line.startswith("- ")]
    if not said:
        return Summary(_within(previous, max_tokens, counter), by_model=False)
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
    return Summary(_within(text, max_tokens, counter), by_model=False)


def _within(text: str, max_tokens: int, counter: TokenCounter) -> str:
    return text[: cut_text(text, max_tokens, counter)].rstrip()


def by_backend(backend: Backend, report: Callable[[str], None]) -> Summarise:
    """Summaries by a model; when it fails or says nothing, the model-free one, and `report` is told why."""

    def summarise(previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter) -> Summary:
        turns = "\n".join(f"{m.name or m.role}: {m.said}" for m in _said(evicted))
        # The summariser has the same window; what does not fit is told by its first part.
        room = (backend.context_window or 8192) - max_tokens - 400
        turns = turns[: cut_text(turns, max(200, room // 2), counter)]
        text = prompts.SUMMARISE.format(words=max(20, max_tokens * 3 // 4), previous=previous or "(none)", turns=turns)
        try:
            completion = backend.generate([Request((ChatMessage("user", text),), max_tokens=max_tokens)])[0]
        except BackendError as e:
            report(f"the summary was made without the model: {e.message}")
            return without_model(previous, evicted, max_tokens, counter)
        if not completion.text.strip():
            report("the summary was made without the model: it answered with nothing")
            return without_model(previous, evicted, max_tokens, counter)
        return Summary(_within(completion.text.strip(), max_tokens, counter), by_model=True)

    return summarise
