"""The recursive summary of what left the queue, without a model (`agentmem.summarising` has the one by a model).

It lists the most telling lines of what was evicted, each with its id, and forgets its oldest lines when
it is full; the covered range of message ids is kept in the epoch, so that nothing becomes unreachable. Where there is a
tree of summaries, its nodes are listed instead, each line with the ids that its node stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from agentmem.language import content_words, is_question, sentences
from agentmem.protocols import TokenCounter
from agentmem.times import day_words
from agentmem.tokens import cut_text
from agentmem.types import Message

if TYPE_CHECKING:
    from agentmem.summary_nodes import Cover, Standing

_CAPITAL = re.compile(r"(?<!^)\b[A-Z][a-z]+")
_DIGIT = re.compile(r"\d")
_SPAN = re.compile(r"- m(\d{1,18})-m(\d{1,18}) ")
_SPEAKER = re.compile(r"^([^()]{1,80}) \([^()]{1,40}\): ")
"""How a line of an extract begins: the day is left out, as of other lines."""
MAX_LINE_CHARS = 160


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary, whether a model wrote it, and the nodes of the tree of summaries (refs) that it was made from."""

    text: str
    by_model: bool
    nodes: tuple[str, ...] = ()


Summarise = Callable[[str, Sequence[Message], int, TokenCounter, "Sequence[Cover]"], Summary]
"""(previous summary, evicted messages, most tokens, counter, ways to make it from nodes, best first) -> the new one, at
most that long. Without ways it is made from the previous one and the messages."""


def told(messages: Sequence[Message]) -> list[Message]:
    """The messages that say something."""
    return [m for m in messages if m.role in ("user", "assistant") and m.said.strip()]


def names_any(line: str, messages: Collection[int]) -> bool:
    """Whether a line of a summary is of a node over some of these messages (ids)."""
    found = _SPAN.match(line)
    return found is not None and any(int(found[1]) <= i <= int(found[2]) for i in messages)


def _worth(sentence: str) -> float:
    """How much a sentence tells: names, numbers and rare words against its length."""
    words = content_words(sentence)
    score = len(set(words)) + 2.0 * len(_CAPITAL.findall(sentence)) + 2.0 * len(_DIGIT.findall(sentence)[:4])
    if is_question(sentence):
        score *= 0.3
    return score / (4 + len(words))


def _short(sentence: str) -> str:
    if len(sentence) > MAX_LINE_CHARS:
        sentence = sentence[: MAX_LINE_CHARS - 3].rsplit(" ", 1)[0] + "..."
    return sentence


def _telling(message: Message) -> tuple[float, str]:
    """How much a message's best sentence tells, and that sentence."""
    best = (-1.0, "")
    text = message.said[:4000]
    for start, end in sentences(text):
        sentence = _short(text[start:end].strip())
        best = max(best, (_worth(sentence), " ".join(sentence.split())), key=lambda pair: pair[0])
    return best


def without_model(
    previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter, ways: Sequence[Cover] = ()
) -> Summary:
    """Lines of the evicted messages, the most telling ones, under a line that says what they are taken from."""
    said = told(evicted)
    old = [line for line in previous.splitlines() if line.startswith("- ")]
    if not said:
        return Summary(within(previous, max_tokens, counter), by_model=False)
    names = list(dict.fromkeys(m.name or m.role for m in said))[:4]
    head = f"Until {day_words(said[-1].at)} {' and '.join(names)} said, among other things:"
    room = max_tokens - counter.count(head)
    if ways:
        listed = _listed(ways[0], old if ways[0].previous else [], room, counter)
        return Summary(within("\n".join([head, *listed]), max_tokens, counter), by_model=False, nodes=ways[0].refs)
    ranked = sorted(((*_telling(m), m) for m in said), key=lambda t: (-t[0], t[2].id))
    fresh: list[tuple[int, str]] = []
    # New lines may take half of the room, the old ones get the rest; then the new ones take what is left over.
    used = 0
    limit = room if not old else room // 2
    for _, sentence, message in ranked[:40]:
        line = _line(message, sentence)
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


def _line(message: Message, sentence: str) -> str:
    return f"- {message.key or message.ref} {message.name or message.role}: {sentence}"


def _listed(way: Cover, old: Sequence[str], room: int, counter: TokenCounter) -> list[str]:
    """Lines that cost at most `room`: by turns the best that is left of each node and of what stands between nodes,
    those that stand for most first, and of the `old` lines the newest. In the order of the messages."""
    parts = [(len(s.messages), _of_node(s)) for s in way.nodes]
    runs: dict[int, list[Message]] = {}
    for message in told(way.left):
        runs.setdefault(sum(s.node.first < message.id for s in way.nodes), []).append(message)
    for run in runs.values():
        best = [(m, *_telling(m)) for m in run]
        parts.append((len(run), [(worth, m.id, _line(m, sentence)) for m, worth, sentence in best if sentence]))
    ranked = [sorted(lines, key=lambda t: (-t[0], t[1])) for _, lines in sorted(parts, key=lambda p: -p[0])]
    ranked.append([(0.0, n - len(old), line) for n, line in reversed(list(enumerate(old)))])
    chosen: list[tuple[int, str]] = []
    for _, place, line in (found for turn in zip_longest(*ranked) for found in turn if found is not None):
        cost = counter.count(line)
        if cost <= room:
            chosen.append((place, line))
            room -= cost
    return [line for _, line in sorted(chosen, key=lambda c: c[0])]


def _of_node(standing: Standing) -> list[tuple[float, int, str]]:
    """(worth, first message, line) of what a node says."""
    node = standing.node
    found: list[tuple[float, int, str]] = []
    for text in standing.text.splitlines():
        speaker = _SPEAKER.match(text)
        who, said = (f"{speaker[1]}: ", text[speaker.end() :]) if speaker is not None else ("", text)
        # A line of an extract is a sentence; what a model wrote is one long line.
        parts = [said[start:end] for start, end in sentences(said)] if len(said) > MAX_LINE_CHARS else [said]
        pieces = [_short(p.strip()) for p in parts]
        found += [(_worth(p), node.first, f"- {node.span} {who}{p}") for p in pieces if p]
    return found


def within(text: str, max_tokens: int, counter: TokenCounter) -> str:
    """The start of a text that costs at most `max_tokens`."""
    return text[: cut_text(text, max_tokens, counter)].rstrip()
