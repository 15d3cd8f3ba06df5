"""Messages to text through a model's own chat template.

The template is Jinja from the model's folder. transformers renders it in its immutable sandbox (no attribute of
Python's, nothing of the caller's can be changed), and no code of a model's folder is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentmem.errors import BadRequestError, ConfigError, MissingExtraError, shown
from agentmem.types import ChatMessage, ToolSpec

_SURROGATE = re.compile("[\ud800-\udfff]")
JOINER = "\u2060"  # WORD JOINER: has no width and is no white space, so no template trims it


def sound(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, of which no tokenizer knows; so is what is sent to servers."""
    return _SURROGATE.sub("\ufffd", text)


def arguments(call_arguments: str) -> dict[str, Any]:
    """A call's arguments as the template gets them: vLLM's server hands over an object, an empty one for any text
    that is no JSON object."""
    try:
        value = json.loads(call_arguments)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def message_dict(message: ChatMessage) -> dict[str, Any]:
    """A message as vLLM's server hands it to a template, its keys in the server's order."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "function": {"arguments": arguments(c.arguments), "name": c.name}, "type": "function"}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


class ChatRenderer:
    """A tokenizer's chat template, or another one: a file's path, or the Jinja text itself.

    With `neutralise`, a control token that is written out in a message (special tokens, and added ones that the
    template itself uses) is broken up by a WORD JOINER behind its first character, so that nobody can open or close a
    message from inside one. Raises ConfigError without a template, or for one that is no Jinja.
    """

    def __init__(self, tokenizer: Any, *, name: str, template: str | None = None, neutralise: bool = False) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._template = None if template is None else _read(template)
        if self._template is None and not tokenizer.chat_template:
            raise ConfigError(
                "model",
                name,
                "its tokenizer has no chat template",
                hint="give one: template=FILE.jinja (a base model has none: take the instruction-tuned one)",
            )
        self.sources = self._sources()
        self._control = self._control_tokens() if neutralise else None

    @property
    def dated(self) -> bool:
        """Whether the template may print the time of rendering."""
        return any("strftime_now" in s for s in self.sources)

    def render(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = (), *, open_reply: bool = True
    ) -> str:
        """The prompt's text. Raises BadRequestError with the template's words when it refuses the messages."""
        try:
            from jinja2.exceptions import TemplateError, TemplateSyntaxError
        except ImportError as e:
            raise MissingExtraError("a chat template", "hf", "jinja2") from e
        if not messages:
            raise ConfigError("messages", messages, "a prompt needs at least one message")
        written = [message_dict(m) for m in messages]
        if self._control is not None:
            written = [self._broken(m) for m in written]
        try:
            text = self._tokenizer.apply_chat_template(
                written,
                tools=[t.to_dict() for t in tools] or None,
                chat_template=self._template,
                add_generation_prompt=open_reply,
                tokenize=False,
            )
        except ImportError as e:  # transformers refuses a Jinja whose sandbox has known holes
            raise MissingExtraError("a chat template", "hf", "jinja2>=3.1.6") from e
        except TemplateSyntaxError as e:
            raise ConfigError(
                "template", self.name, f"is no Jinja: {e}", hint="give another one: template=FILE.jinja"
            ) from e
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as e:
            roles = " ".join(m.role for m in messages[-8:])
            raise BadRequestError(
                f"the chat template of {self.name} refuses the messages: {e}",
                hint=f"their roles end in: {roles}; another template can be given: template=FILE.jinja",
            ) from e
        return sound(str(text))

    def _sources(self) -> tuple[str, ...]:
        if self._template is not None:
            return (self._template,)
        own = self._tokenizer.chat_template
        return tuple(own.values()) if isinstance(own, dict) else (own,)

    def _control_tokens(self) -> re.Pattern[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        found = {
            t.content
            for t in added
            if len(t.content.strip()) > 1 and (t.special or any(t.content in s for s in self.sources))
        }
        longest_first = sorted(found, key=lambda t: (-len(t), t))
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def _broken(self, value: Any) -> Any:
        if isinstance(value, str):
            assert self._control is not None
            return self._control.sub(lambda m: m[0][0] + JOINER + m[0][1:], value)
        if isinstance(value, dict):
            return {self._broken(k): self._broken(v) for k, v in value.items()}
        return [self._broken(v) for v in value] if isinstance(value, list) else value


def _read(template: str) -> str:
    if "{" in template:
        return template
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise ConfigError("template", template, f"can't be read: {e}", hint="give a file of Jinja, or its text") from e


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model's folder, or of a hub's id that is in the local cache; nothing is fetched.

    Raises ConfigError when there is none, MissingExtraError without transformers.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as e:
        raise MissingExtraError("a chat template and exact token counts", "hf", "transformers") from e
    if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
        raise ConfigError("model", path, "there is no such folder", hint="name the folder that holds the model")
    try:
        return AutoTokenizer.from_pretrained(
            str(Path(path).expanduser()) if path.startswith("~") else path,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as e:  # a damaged tokenizer.json raises a bare Exception; all become one error
        raise ConfigError(
            "model",
            path,
            f"no tokenizer can be loaded from there: {type(e).__name__}: {shown(str(e), 200)}",
            hint="a folder needs tokenizer.json and tokenizer_config.json; a hub's model must have been downloaded",
        ) from e


def end_ids(tokenizer: Any, path: str | None) -> frozenset[int]:
    """The tokens that end a reply: the tokenizer's, and those of the model's generation_config.json."""
    told = [tokenizer.eos_token_id]
    if path is not None:
        from transformers.utils import cached_file

        found = cached_file(
            path,
            "generation_config.json",
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            told += _eos_of(Path(found))
    return frozenset(i for i in told if type(i) is int)


def _eos_of(file: Path) -> list[Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError("model", str(file), f"can't be read: {e}", hint="repair or remove the file") from e
    value = config.get("eos_token_id") if isinstance(config, Mapping) else None
    return list(value) if isinstance(value, list) else [value]
