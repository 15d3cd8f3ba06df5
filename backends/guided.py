"""Decoding under a grammar, through the package llguidance: JSON of a schema, or one call of one tool.

llguidance (MIT; Rust, a wheel of 3 MB without dependencies) gives, for each step, the tokens that the grammar allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentmem.errors import BadCompletionError, ConfigError, MissingExtraError
from agentmem.types import ToolSpec

if TYPE_CHECKING:
    import torch

_PACKAGE = "llguidance"
# White space as chat templates write it (Jinja's tojson), and no other: a weak model would write it for ever, and a
# call that is rendered again stands there as it was generated.
_SPACES: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_TAGS = ("<tool_call>", "</tool_call>")


def available() -> bool:
    """Whether the grammar library is installed."""
    return find_spec(_PACKAGE) is not None


class Grammars:
    """Makes the grammars of one tokenizer. `vocabulary` is the width of the model's logits, `ends` its end tokens;
    with `tagged` a call stands between `<tool_call>` and `</tool_call>`, without it is the whole answer.

    Raises MissingExtraError without llguidance, ConfigError for a tokenizer that it can't read (a slow one).
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int], *, tagged: bool = True) -> None:
        try:
            from llguidance import LLTokenizer
        except ImportError as e:
            raise MissingExtraError("JSON under a schema", "hf", _PACKAGE) from e
        self._ids: dict[str, int] = tokenizer.get_added_vocab()
        self._tagged = tagged
        self._width = max(vocabulary, len(tokenizer))
        try:
            core = tokenizer.backend_tokenizer.to_str()
            self._tokenizer = LLTokenizer(core, n_vocab=self._width, eos_token=sorted(ends))
        except (AttributeError, ValueError) as e:
            hint = "give a model with tokenizer.json"
            raise ConfigError("tokenizer", type(tokenizer).__name__, f"can't be guided: {e}", hint=hint) from e

    def json(self, schema: Mapping[str, Any]) -> Guide:
        """JSON text of `schema`. Raises ConfigError for a schema that can't be enforced."""
        from llguidance import LLMatcher

        return self._guide(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_SPACES), "schema", schema)

    def call(self, tool: ToolSpec) -> Guide:
        """One call of `tool`, in the form that `agentmem.parsing.text_calls` reads. Raises ConfigError as `json`."""
        from llguidance import LLMatcher

        parameters = {"type": "object", **tool.parameters}
        schema = {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": parameters},
            "required": ["name", "arguments"],
            "additionalProperties": False,
            "x-guidance": _SPACES,
        }
        opened, closed = (self._terminal(tag) for tag in _TAGS)
        start = f'{opened} "\\n" call "\\n" {closed}' if self._tagged else "call"
        grammar = f"start: {start}\ncall: %json {json.dumps(schema)}"
        return self._guide(LLMatcher.grammar_from_lark(grammar), "only_tool", tool.name)

    def _terminal(self, tag: str) -> str:
        """A token of its own by its number; else by its letters, of whichever tokens."""
        return f"<[{self._ids[tag]}]>" if tag in self._ids else json.dumps(tag)

    def _guide(self, grammar: str, field: str, value: object) -> Guide:
        from llguidance import LLMatcher

        # A matcher never raises: it is in an error state from then on.
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            problem = matcher.get_error().strip().splitlines()[-1]
            raise ConfigError(field, value, f"can't be enforced: {problem}", hint="use plainer JSON Schema keywords")
        return Guide(matcher, self._width)


class Guide:
    """Where one completion stands in its grammar."""

    def __init__(self, matcher: Any, width: int) -> None:
        self._matcher = matcher
        self._width = width

    @property
    def done(self) -> bool:
        """The text is complete: nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> torch.Tensor:
        """The tokens that may come next, bool of shape (width,), on the CPU. Raises BadCompletionError."""
        import numpy as np
        import torch

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return torch.from_numpy(np.unpackbits(bits, count=self._width, bitorder="little")).bool()

    def take(self, token: int) -> None:
        """Go on by a token that was allowed. Raises BadCompletionError."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadCompletionError(
                f"the grammar can't be followed further: {self._matcher.get_error().strip()}",
                hint="use a plainer or smaller JSON schema",
            )
