"""Exact tokens of prompts: a local Hugging Face tokenizer with its chat template."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from agentmem.backends.chat_rendering import ChatRenderer, end_ids, load_tokenizer, sound
from agentmem.backends.prompt_units import Borders, PromptUnits
from agentmem.backends.rerendering import difference
from agentmem.backends.template_probe import TOOL, before, followers, opening_context
from agentmem.encoding import Encoding, Piece
from agentmem.errors import BadRequestError
from agentmem.types import ChatMessage, ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONG = 20_000


class ChatTokenizer:
    """Counts and encodes prompts as the model reads them: a `TokenCounter` and a `PromptTokenizer`.

    `name` says which model's it is. `template`, a file of Jinja or its text, stands in for the tokenizer's own.
    What was typed in a message is rendered as it is, as servers do: text that spells a control token becomes one.
    With `neutralise` it does not (see `ChatRenderer`); that is for engines which are given these very tokens.
    `cache_tokens` bounds the messages that are kept encoded. Thread-safe. Offsets need a fast tokenizer; with another
    one counts are as exact, and a token's place within its message is estimated (`how` says so).

    Raises ConfigError where there is no chat template. Methods that render raise BadRequestError, with the template's
    words, for messages that it refuses.
    """

    exact = True
    additive = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        template: str | None = None,
        neutralise: bool = False,
        path: str | None = None,
        cache_tokens: int = 500_000,
    ) -> None:
        self.name = f"{name}'s own tokenizer and chat template"
        self.tokenizer: Any = tokenizer
        self.eos_ids: frozenset[int] = end_ids(tokenizer, path)
        self._renderer = ChatRenderer(tokenizer, name=name, template=template, neutralise=neutralise)
        self._lock = threading.RLock()
        self._units = PromptUnits(
            self._renderer, self._tokenise, Borders(tokenizer), cache_tokens=cache_tokens
        )  # fmt: skip
        self._counted = lru_cache(maxsize=20_000)(self._count)
        self._measured = lru_cache(maxsize=2_000)(self._measure)

    @classmethod
    def load(cls, path: str, *, template: str | None = None, neutralise: bool = False) -> ChatTokenizer:
        """The tokenizer in a model's folder, or of a hub's id that is in the local cache; nothing is fetched.

        Raises ConfigError when there is none, or no chat template; MissingExtraError without transformers.
        """
        return cls(load_tokenizer(path), name=path, template=template, neutralise=neutralise, path=path)

    def __repr__(self) -> str:
        return f"ChatTokenizer({self.name!r})"

    @property
    def incremental(self) -> bool:
        """Whether a turn's cost is that of its new messages alone. Tries the template when first asked."""
        with self._lock:
            return self._units.incremental

    @property
    def how(self) -> str:
        """How prompts are counted, in a line. Tries the template when first asked."""
        with self._lock:
            offsets = "" if self._is_fast else "; where a token stands in its message is estimated (slow tokenizer)"
            return self._units.how + offsets

    @cached_property
    def accepts_tools(self) -> bool:
        """Whether the template writes tools into the prompt."""
        asked = ChatMessage("user", "One?")
        try:
            with_tool = self.render((asked,), (TOOL,))
            return TOOL.name in with_tool and with_tool != self.render((asked,))
        except BadRequestError:
            return False

    def count(self, text: str) -> int:
        """Tokens of a text on its own."""
        return self._counted(text) if len(text) <= _LONG else self._count(text)

    def count_message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt: measured in a short conversation, its wrappers included.

        Where a template refuses the message there, its content, its calls and the opening of a reply are counted.
        """
        with self._lock:
            return self._measured(message)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the whole prompt, the opening of the reply included."""
        return len(self.encode_prompt(messages, tools))

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        """The prompt's tokens; the pieces of messages that were in an earlier prompt are the same objects."""
        with self._lock:
            return self._units.encode(messages, tools)

    def render(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = (), *, open_reply: bool = True
    ) -> str:
        """The prompt's text, with the opening of the reply or without."""
        return self._renderer.render(messages, tools, open_reply=open_reply)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of tokens, special ones included unless they are to be skipped."""
        with self._lock:
            return str(
                self.tokenizer.decode(
                    list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
                )
            )

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        """Why an assistant message would stand in later prompts as other tokens than `ids`, those that the model
        generated for it without the one that ended it; "" when it would not.

        Looked at in the prompt that follows it and in one of the next turn.
        """
        with self._lock:
            base = self._base
            opened = self._tokenise(self.render(base)).ids
            refused: BadRequestError | None = None
            for following in followers(message):
                try:
                    later = self.render((*base, message, *following), open_reply=False)
                except BadRequestError as e:
                    refused = e
                    continue
                refused = None
                arguments = [c.arguments for c in message.tool_calls]
                if cause := difference(opened, ids, self._tokenise(later).ids, self.decode, arguments):
                    return cause
            return "" if refused is None else f"the chat template refuses it: {refused.message}"

    def _measure(self, message: ChatMessage) -> int:
        try:
            context = before(message, self._base)
            if (alone := self._units.alone(message, context)) is not None:
                return alone
            if message.role == "system":
                return max(0, self._length((message, context[-1])) - self._length(context[-1:]))
            return max(0, self._length((*context, message)) - self._length(context))
        except BadRequestError:
            calls = sum(self.count(c.name) + self.count(c.arguments) for c in message.tool_calls)
            return self.count(message.content) + calls + self._opening_tokens

    @cached_property
    def _base(self) -> tuple[ChatMessage, ...]:
        return opening_context(self.render)

    @cached_property
    def _opening_tokens(self) -> int:
        """Tokens of a reply's opening."""
        opened, closed = (self._tokenise(self.render(self._base, open_reply=o)).ids for o in (True, False))
        return max(0, len(opened) - len(closed))

    @property
    def _is_fast(self) -> bool:
        return bool(getattr(self.tokenizer, "is_fast", False))

    def _length(self, messages: Sequence[ChatMessage]) -> int:
        return len(self._tokenise(self.render(messages, open_reply=False)).ids)

    def _count(self, text: str) -> int:
        with self._lock:
            return len(self._tokenise(sound(text)).ids) if text else 0

    def _tokenise(self, text: str) -> Piece:
        if not text:
            return Piece("", (), ())
        told = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=self._is_fast, return_attention_mask=False,
            verbose=False,
        )  # fmt: skip
        ids = tuple(told["input_ids"])
        if not self._is_fast:
            return Piece(text, ids, tuple(n * len(text) // len(ids) for n in range(len(ids))))
        return Piece(text, ids, _starts(told["offset_mapping"]))


def _starts(offsets: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Where each token begins. Some tokenizers leave a token's first space out of its offsets: it is put back."""
    starts: list[int] = []
    start = end = 0
    for first, last in offsets:
        start = max(start, min(first, end))
        end = max(end, last)
        starts.append(start)
    return tuple(starts)
