"""Which tokenizer counts for a server: one on this machine that was seen to agree with it, else the server's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from agentmem.backends.http import LOOPBACK, HttpClient
from agentmem.backends.served_model import ServedModel
from agentmem.backends.server_tokens import ServerCounter, ServerTokenizer, probe_conversation
from agentmem.encoding import Encoding
from agentmem.errors import AgentMemError, BadCompletionError, BadRequestError, ConfigError
from agentmem.protocols import PromptTokenizer, TokenCounter
from agentmem.types import ChatMessage, ToolSpec

Measure = Callable[[Sequence[ChatMessage], Sequence[ToolSpec]], int | None]
_PLAIN = (ChatMessage("user", "What's new? \u6771\u4eac 1,234.50"),)


class Tokenizer(TokenCounter, PromptTokenizer, Protocol):
    """What counts and knows the tokens."""


class CheckedTokenizer:
    """A tokenizer on this machine in the place of the server's, for as long as nothing speaks against it.

    `server` takes over once it is distrusted; without one (the server tokenises for nobody) the local one stays, as an
    estimate. Tools are counted as they are sent (`tool`).
    """

    def __init__(self, local: Tokenizer, server: ServerTokenizer | None, tool: Callable[[ToolSpec], ToolSpec]) -> None:
        self._local = local
        self._server = server
        self._tool = tool
        self._reason = ""
        self._chosen: Tokenizer = local
        self.name, self.exact, self.additive = local.name, local.exact, local.additive

    def distrust(self, reason: str) -> None:
        """Count by the server's tokenizer from now on; `reason` is said in `how`. The first reason stays."""
        self._reason = self._reason or reason
        self._chosen = self._server if self._server is not None else self._local
        self.name, self.additive = self._chosen.name, self._chosen.additive
        self.exact = self._server is not None

    @property
    def incremental(self) -> bool:
        """Whether a turn's cost is that of its new messages alone."""
        return self._chosen.incremental

    @property
    def how(self) -> str:
        """How prompts are counted, in a line."""
        doubt = f"; {self._local.name} is not trusted: {self._reason}" if self._reason else ""
        return self._chosen.how + doubt

    def count(self, text: str) -> int:
        """Tokens of a text on its own."""
        return self._chosen.count(text)

    def count_message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt."""
        return self._chosen.count_message(message)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the whole prompt."""
        return self._chosen.count_prompt(messages, self._sent(tools))

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        """The prompt's tokens."""
        return self._chosen.encode_prompt(messages, self._sent(tools))

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        """Why a generated message would stand in the next prompt as other tokens; "" when it would not."""
        return self._chosen.rerendered(message, ids)

    def _sent(self, tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        # The server's counter turns them itself.
        return [self._tool(t) for t in tools] if self._chosen is self._local else tools


def choose_counter(
    http: HttpClient,
    served: ServedModel,
    wanted: str | Tokenizer,
    tool: Callable[[ToolSpec], ToolSpec],
    measure: Measure,
) -> TokenCounter:
    """The counter for a served model. `wanted`: "server"; "auto" for the model's own folder, where the server runs on
    this machine and names one; a folder or hub name; or a tokenizer.

    One of this machine's is taken when it makes the same tokens as the server of a conversation with a call and odd
    text; where the server has no /tokenize, when `measure` (the prompt tokens of a request) says the same number.
    Raises BackendError, and ConfigError for a tokenizer that can't be loaded.
    """
    server = _server_tokenizer(http, served, tool)
    local, problem = _local(http, served, wanted)
    if local is not None:
        problem = _difference(local, server, tool, measure)
        if not problem:
            return CheckedTokenizer(local, server, tool)
        problem = f"{local.name} is not used: {problem}"
    if server is not None:
        server.how = f"{ServerTokenizer.how} ({problem})" if problem else ServerTokenizer.how
        return server
    counter = ServerCounter(http, served.id, tool)
    counter.count("a")  # so that its name says at once whether it estimates
    if problem:
        counter.name += f"; {problem}"
    return counter


def _server_tokenizer(
    http: HttpClient, served: ServedModel, tool: Callable[[ToolSpec], ToolSpec]
) -> ServerTokenizer | None:
    """None when the server does not tokenise, or does not say which tokens it counts."""
    server = ServerTokenizer(http, served.id, tool)
    server.count("a")
    if not server.exact:
        return None
    try:
        server.encode_prompt(_PLAIN)
    except (BadCompletionError, BadRequestError):
        return None
    return server


def _local(http: HttpClient, served: ServedModel, wanted: str | Tokenizer) -> tuple[Tokenizer | None, str]:
    if not isinstance(wanted, str):
        return wanted, ""
    if wanted == "server":
        return None, ""
    if wanted != "auto":
        return _load(wanted), ""
    # A far server's folder is not this machine's, whatever it is called.
    root = served.row().root if urlsplit(http.url).hostname in LOOPBACK else ""
    if not root or not Path(root).is_dir():
        return None, ""
    try:
        return _load(root), ""
    except (AgentMemError, ImportError) as e:
        return None, f"{root} has no tokenizer that can be used here: {str(e).splitlines()[0]}"


def _load(path: str) -> Tokenizer:
    from agentmem.backends.chat_template import ChatTokenizer

    return ChatTokenizer.load(path)


def _difference(
    local: Tokenizer, server: ServerTokenizer | None, tool: Callable[[ToolSpec], ToolSpec], measure: Measure
) -> str:
    """What speaks against a tokenizer; "" when nothing does."""
    messages, tools = probe_conversation()
    attempts: list[tuple[Sequence[ChatMessage], Sequence[ToolSpec]]] = [
        (messages, tools),
        (messages[:2], ()),
        (_PLAIN, ()),
    ]
    for asked, offered in attempts:
        try:
            ids = server.encode_prompt(asked, offered).ids if server is not None else None
            count = len(ids) if ids is not None else measure(asked, offered)
        except BadRequestError:
            continue  # the template knows no tools, or no system message
        try:
            mine = local.encode_prompt(asked, [tool(t) for t in offered]).ids
        except (ConfigError, BadRequestError) as e:
            return f"it can't write a conversation that the server can: {e.message}"
        if count is None:
            return "the server tells no number of tokens to compare with"
        if len(mine) != count:
            return f"it makes {len(mine)} tokens of a prompt, the server {count}"
        if ids is not None and mine != ids:
            at = next(n for n, (a, b) in enumerate(zip(mine, ids, strict=True)) if a != b)
            return f"its token {at + 1} of a prompt is {mine[at]}, the server's {ids[at]}"
        return ""
    return "the server refuses every prompt that was tried"
