"""vLLM's own parsers of tool calls, for models that write calls in another form than `<tool_call>` JSON."""

from __future__ import annotations

from typing import Any

from agentmem.errors import ConfigError
from agentmem.types import ChatMessage, Request, ToolCall


class ToolParser:
    """Takes the tool calls out of a whole answer. `name` is one of vLLM's (`llama3_json`, `mistral`, `hermes`, ...).

    Raises ConfigError for a name that vLLM does not know, and for a parser that the tokenizer does not suit.
    """

    def __init__(self, name: str, tokenizer: Any) -> None:
        from vllm.tool_parsers import ToolParserManager

        self.name = name
        self._tokenizer = tokenizer
        known = sorted({*ToolParserManager.tool_parsers, *ToolParserManager.lazy_parsers})
        if name not in known:
            raise ConfigError("tool_parser", name, "is none of vLLM's", hint=f"known: {', '.join(known)}")
        self._class = ToolParserManager.get_tool_parser(name)
        try:
            self._class(tokenizer, None)
        except (RuntimeError, ValueError) as e:
            raise ConfigError("tool_parser", name, f"does not suit the model's tokenizer: {e}") from e

    def sampling_settings(self, request: Request) -> dict[str, Any]:
        """What the parser needs of the text: some know calls by special tokens, which are else left out."""
        asked = self._request(request)
        adjusted = self._class(self._tokenizer, asked.tools).adjust_request(asked)
        return {"skip_special_tokens": adjusted.skip_special_tokens}

    def split(self, text: str, request: Request) -> tuple[str, tuple[ToolCall, ...]]:
        """The text beside the calls, and the calls, their arguments as the JSON text that the parser gives."""
        asked = self._request(request)
        found = self._class(self._tokenizer, asked.tools).extract_tool_calls(text, asked)
        if not found.tools_called:
            return text, ()
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in found.tool_calls)
        return found.content or "", calls

    def _request(self, request: Request) -> Any:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        message = ChatMessage("user", "").to_dict()
        return ChatCompletionRequest(
            model=self.name, messages=[message], tools=[t.to_dict() for t in request.tools], tool_choice="auto"
        )
