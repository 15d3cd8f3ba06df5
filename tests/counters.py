"""Token counters for tests: one that splits at white space, and two that no sum of parts can predict."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentmem.tokens import AdditiveCounter
from agentmem.types import ChatMessage, ToolSpec


def word_counter() -> AdditiveCounter:
    """A word is a token."""
    return AdditiveCounter(lambda text: len(text.split()), name="words", exact=True)


class PairCounter:
    """Not additive: every two characters begun are a token, line ends included, and the template costs 3 a message.

    The whole may be fewer or more than the parts, as with a byte-pair encoding.
    """

    name = "pairs"
    exact = True
    additive = False

    def count(self, text: str) -> int:
        return -(-len(text) // 2)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        said = "".join(f"<{m.role}>{m.content}{[(c.name, c.arguments) for c in m.tool_calls]}\n" for m in messages)
        return self.count(said + "".join(json.dumps(t.to_dict()) for t in tools)) + 3 * len(messages)


class MergingCounter:
    """Not additive: a run of equal characters is one token, so that parts joined may be fewer tokens than apart."""

    name = "merging"
    exact = True
    additive = False

    def count(self, text: str) -> int:
        return sum(1 for n, c in enumerate(text) if n == 0 or text[n - 1] != c)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        total = sum(self.count(m.content) + 1 for m in messages)
        total += sum(self.count(c.name) + self.count(c.arguments) for m in messages for c in m.tool_calls)
        return total + sum(self.count(json.dumps(t.to_dict())) for t in tools)
