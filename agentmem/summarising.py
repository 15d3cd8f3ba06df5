"""The summary of what leaves the queue, by the model: its request rides the prefix that the agent's prompts share.

What is to be summarised is the frozen part of the prompt and the oldest turns of the queue, in their own bytes: an
engine has that in its cache already. Behind it stands the instruction. What the model said is kept by what it was
asked: a flush that was interrupted is not paid for twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentmem import prompts
from agentmem.citing import clean
from agentmem.context import PromptPlan, render
from agentmem.derived import decode, derived_key, encode, text_of
from agentmem.errors import BackendError
from agentmem.parsing import strip_thinking, text_calls
from agentmem.planning import shown_short
from agentmem.protocols import Backend, TokenCounter
from agentmem.summary import Summary, told, within, without_model
from agentmem.tokens import cut_text
from agentmem.types import ChatMessage, Message, Request

if TYPE_CHECKING:
    from agentmem.memory import Memory


class ModelSummariser:
    """Summaries by a backend; when it fails or says nothing, the model-free one, and `report` is told why."""

    def __init__(self, memory: Memory, backend: Backend, report: Callable[[str], None], cache_salt: str | None) -> None:
        self._memory = memory
        self._backend = backend
        self._report = report
        self._salt = cache_salt

    def __call__(  # noqa: D102 (the law is Summarise's)
        self, previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter
    ) -> Summary:
        request = self._riding(evicted, max_tokens) or self._alone(previous, evicted, max_tokens, counter)
        memory, derived, key = self._memory, self._memory.records.derived, self._key(request)
        clears = derived.clears()
        known = decode(derived.get("summary", key), text_of)
        if known is not None:
            return Summary(within(known, max_tokens, counter), by_model=True)
        try:
            completion = self._backend.generate([request])[0]
        except BackendError as e:
            self._report(f"the summary was made without the model: {e.message}")
            return without_model(previous, evicted, max_tokens, counter)
        text, calls = text_calls(strip_thinking(completion.text), request.tools, 0)
        if not text.strip() or calls or completion.tool_calls:
            said = "it called a tool instead" if calls or completion.tool_calls else "it answered with nothing"
            self._report(f"the summary was made without the model: {said}")
            return without_model(previous, evicted, max_tokens, counter)
        summary = Summary(within(clean(text.strip()), max_tokens, counter), by_model=True)
        # Not once something was erased meanwhile: it may be told here.
        derived.put("summary", key, encode(summary.text), memory.clock(), since=clears)
        return summary

    def _key(self, request: Request) -> bytes:
        """All that the model's answer depends on."""
        asked = {
            "messages": [m.to_dict() for m in request.messages], "tools": [t.to_dict() for t in request.tools],
            "max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed,
        }  # fmt: skip
        return derived_key("summary", self._backend.name, json.dumps(asked), template=str(prompts.TEMPLATE))

    def _riding(self, evicted: Sequence[Message], max_tokens: int) -> Request | None:
        """The shared prefix up to the last evicted message, then the instruction; None when that does not fit."""
        memory = self._memory
        epoch, _ = memory.pager.state()
        shape = memory.shape
        cuts, bare = shown_short(evicted, memory.budget.entry_tokens, shape.counter)
        plan = PromptPlan(
            epoch.number, evicted[0].id, evicted[-1].id, query=prompts.SUMMARISE_ABOVE.format(words=_words(max_tokens)),
            cuts=tuple(cuts), bare_calls=tuple(bare), mode=shape.mode,
            earlier=len(epoch.compressed),
        )  # fmt: skip
        messages = tuple(w.message() for w in render(plan, epoch, {m.id: m for m in evicted}, ()))
        if shape.counter.count_prompt(messages, shape.tools) + max_tokens > memory.config.window_tokens:
            return None
        return Request(messages, shape.tools, max_tokens=max_tokens, cache_salt=self._salt)

    def _alone(self, previous: str, evicted: Sequence[Message], max_tokens: int, counter: TokenCounter) -> Request:
        """A prompt of its own, for what does not fit the window: of each part, its beginning."""
        turns = "\n".join(f"{m.name or m.role}: {m.said}" for m in told(evicted))
        room = self._memory.config.window_tokens - max_tokens - 400
        turns = turns[: cut_text(turns, max(200, room // 2), counter)]
        words = _words(max_tokens)
        text = prompts.SUMMARISE.format(words=words, previous=previous or "(none)", turns=turns)
        return Request((ChatMessage("user", text),), max_tokens=max_tokens, cache_salt=self._salt)


def _words(max_tokens: int) -> int:
    return max(20, max_tokens * 3 // 4)
