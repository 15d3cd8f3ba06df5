"""Requests to a model in the one layout that all of a strategy's requests share, and how much fits into one.

The instruction comes first and is the same for every agent, so that a prefix cache holds it once; what is stored comes
behind it, as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.reflection.budget import Estimate
from agentmem.reflection.material import DATA_RULE, material
from agentmem.types import ChatMessage, Message, Passage, Request

if TYPE_CHECKING:
    from agentmem.reflection.view import View

R = TypeVar("R", Message, Passage, Message | Passage)
SLACK_TOKENS = 32
"""Kept free for what a chat template adds."""


def request(view: View, instruction: str, text: str, schema: Mapping[str, Any], max_tokens: int) -> Request:
    """A request at temperature 0: the fixed instruction and the rule of data as system message, `text` as the user's;
    the answer is JSON of the schema."""
    messages = (ChatMessage("system", f"{instruction}\n{DATA_RULE}"), ChatMessage("user", text))
    return Request(messages, max_tokens=max_tokens, temperature=0.0, seed=view.seed, schema=schema)


def answer_tokens(view: View, wanted: int) -> int:
    """How long an answer may be: `wanted`, and never more than a third of the window."""
    return max(16, min(wanted, view.window_tokens // 3))


def room(view: View, instruction: str, max_tokens: int, around: str = "") -> int:
    """How many tokens of records fit beside an instruction, the text around them and an answer of `max_tokens`."""
    empty = request(view, instruction, material([]).text + around, {}, max_tokens)
    return view.window_tokens - max_tokens - SLACK_TOKENS - view.counter.count_prompt(empty.messages)


def fitting(view: View, records: Iterable[R], tokens: int, max_chars: int) -> list[R]:
    """The first of the records that together take at most `tokens` as material; none when the first is too long."""
    found: list[R] = []
    used = 0
    for record in records:
        # Each is counted under a number of four digits: the real one is never longer in practice.
        line = material([record], max_chars).text.split("\n")[1].replace("[1]", "[1000]", 1)
        used += view.counter.count(line) + 1
        if used > tokens:
            break
        found.append(record)
    return found


def record_chars(tokens: int, most: int) -> int:
    """Where each record is cut, so that at least one fits into `tokens`: at `most` where there is room."""
    return max(40, min(most, tokens * 3 // 2))


def cost(view: View, records: int, requests: Sequence[Request]) -> Estimate:
    """What requests cost at most, beside the records read."""
    prompts = sum(view.counter.count_prompt(r.messages, r.tools) for r in requests)
    return Estimate(records, len(requests), prompts, sum(r.max_tokens for r in requests))
