# ruff: noqa: D102
"""The laws of `agentmem.protocols.PromptTokenizer` as a test class: inherit it, give its fixture, and pytest runs them.

Nothing here imports pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from agentmem.encoding import Encoding, shared_prefix
from agentmem.protocols import PromptTokenizer, TokenCounter
from agentmem.types import ChatMessage, ToolCall, ToolSpec

Conversation = tuple[ChatMessage, ...]

TOOLS = (
    ToolSpec("archival_memory_search", "Search the archive.", {"type": "object", "properties": {"query": {}}}),
    ToolSpec("send_message", "Say something.", {"type": "object", "properties": {"message": {"type": "string"}}}),
)


def conversation(turns: int = 4) -> Conversation:
    """A system message and turns, every second one with a call and its result; a question is last."""
    out = [ChatMessage("system", "You help.\n\n# Memory\nAnna lives in Lisbon.")]
    for n in range(turns):
        out.append(ChatMessage("user", f"Question {n}: où est Anna? 東京 🙂\n"))
        if n % 2:
            call = ToolCall(f"call{n:05d}", TOOLS[0].name, '{"query": "Anna é", "page": 0}')
            out += [ChatMessage("assistant", "", (call,)), ChatMessage("tool", '["Lisbon"]', tool_call_id=call.id)]
        out.append(ChatMessage("assistant", f"She is in Lisbon, I said it {n} times."))
    return (*out, ChatMessage("user", "And now?"))


class ExactCounter(TokenCounter, PromptTokenizer, Protocol):
    """What the contract is for: a counter that knows the tokens."""


class PromptTokenizerContract:
    """Laws of PromptTokenizer. Override the fixture `prompt_tokenizer`; and `conversations` where some are refused."""

    def conversations(self) -> Sequence[tuple[Conversation, Sequence[ToolSpec]]]:
        """Prompts that it must be able to encode."""
        longer = conversation()
        return [((*longer[:1], longer[-1]), ()), (longer, ()), (longer, TOOLS), (longer[1:], ()), (longer[:-1], TOOLS)]

    def test_says_what_it_is(self, prompt_tokenizer: ExactCounter) -> None:
        assert isinstance(prompt_tokenizer, PromptTokenizer)
        assert prompt_tokenizer.name
        assert prompt_tokenizer.exact is True, "tokens that are known are counted exactly"
        assert isinstance(prompt_tokenizer.incremental, bool)
        assert prompt_tokenizer.how and "\n" not in prompt_tokenizer.how

    def test_counts_of_texts(self, prompt_tokenizer: ExactCounter) -> None:
        assert prompt_tokenizer.count("") == 0
        for text in ("a", " \n", "où? 東京 🙂", "word " * 500):
            assert prompt_tokenizer.count(text) == prompt_tokenizer.count(text) > 0

    def test_counts_are_lengths(self, prompt_tokenizer: ExactCounter) -> None:
        for messages, tools in self.conversations():
            encoding = prompt_tokenizer.encode_prompt(messages, tools)
            assert len(encoding) == len(encoding.ids) == prompt_tokenizer.count_prompt(messages, tools) > 0
            assert prompt_tokenizer.encode_prompt(list(messages), list(tools)).ids == encoding.ids

    def test_pieces_are_in_order_and_cover_all_messages(self, prompt_tokenizer: ExactCounter) -> None:
        for messages, tools in self.conversations():
            self.check(prompt_tokenizer.encode_prompt(messages, tools), len(messages))

    def check(self, encoding: Encoding, num_messages: int) -> None:
        """What holds of every encoding."""
        assert len(encoding.pieces) == len(encoding.messages)
        ends = [0]
        for first, end in encoding.messages:
            assert first == ends[-1] <= end, f"pieces skip or repeat messages: {encoding.messages}"
            ends.append(end)
        assert ends[-1] == num_messages
        for piece in encoding.pieces:
            assert len(piece.ids) == len(piece.starts), "each token has a start"
            assert all(0 <= s <= len(piece.text) for s in piece.starts)
            assert all(a <= b for a, b in pairwise(piece.starts)), f"starts decrease: {piece.starts}"
            assert not piece.starts or piece.starts[0] == 0, "text stands before the first token"

    def test_shared_prefixes_are_those_of_the_tokens(self, prompt_tokenizer: ExactCounter) -> None:
        encodings = [prompt_tokenizer.encode_prompt(m, t) for m, t in self.conversations()]
        for a in encodings:
            for b in encodings:
                pairs = zip(a.ids, b.ids, strict=False)
                same = next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
                assert shared_prefix(a, b) == same

    def test_unchanged_messages_are_not_encoded_again(self, prompt_tokenizer: ExactCounter) -> None:
        if not prompt_tokenizer.incremental:
            return
        messages, tools = self.conversations()[-1]
        shorter = prompt_tokenizer.encode_prompt(messages, tools)
        added: Conversation = (ChatMessage("assistant", "Still there."), ChatMessage("user", "Sure?"))
        if messages[-1].role != "user":
            added = added[1:]
        longer = prompt_tokenizer.encode_prompt((*messages, *added), tools)
        kept = len(shorter.pieces) - 1  # the last one opens the reply
        assert all(a is b for a, b in zip(shorter.pieces[:kept], longer.pieces, strict=False))

    def test_messages_have_a_cost(self, prompt_tokenizer: ExactCounter) -> None:
        for message in conversation(2):
            assert prompt_tokenizer.count_message(message) == prompt_tokenizer.count_message(message) > 0

    def test_what_the_model_did_not_write_is_found_out(self, prompt_tokenizer: ExactCounter) -> None:
        messages = conversation(1)
        cause = prompt_tokenizer.rerendered(messages[2], prompt_tokenizer.encode_prompt(messages).ids[:5])
        assert cause and "\n" not in cause, "tokens of another text are said to stand in later prompts"
