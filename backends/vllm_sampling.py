"""From a request to what vLLM samples by: settings, and the grammar that holds an answer to a schema or to one tool."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from agentmem.errors import ConfigError
from agentmem.types import Request, ToolSpec

_SEEDS = 2**63
# Those of the model's own generation_config that a request does not set; vLLM's server takes them over too.
_MODELS_OWN = ("top_p", "top_k", "min_p")
_SPACED = {"item_separator": ", ", "key_separator": ": "}


def check_request(request: Request) -> None:
    """Raises ConfigError for a request that can't be sent."""
    if not request.messages:
        raise ConfigError("messages", request.messages, "a request needs at least one message")
    if request.max_tokens < 1:
        raise ConfigError("max_tokens", request.max_tokens, "must be 1 or more")
    if not math.isfinite(request.temperature) or request.temperature < 0:
        raise ConfigError("temperature", request.temperature, "must be a number, 0 (greedy) or more")
    if request.seed is not None and not -_SEEDS <= request.seed < _SEEDS:
        raise ConfigError("seed", request.seed, "must fit into 64 bits")
    if request.cache_salt == "":
        raise ConfigError("cache_salt", "", "must not be empty: it would share what a salt keeps apart")
    names = [t.name for t in request.tools]
    if request.only_tool is not None and request.only_tool not in names:
        raise ConfigError("only_tool", request.only_tool, f"is none of the request's tools: {', '.join(names)}")
    if request.only_tool is not None and request.schema is not None:
        raise ConfigError("schema", "...", "can't be given together with only_tool: each is a grammar of the answer")


def sampling_settings(request: Request, stop_ids: Collection[int], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `SamplingParams`. `defaults` are those of the model's generation_config."""
    settings: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "stop_token_ids": sorted(stop_ids),
    }
    if request.temperature > 0:
        settings |= {name: defaults[name] for name in _MODELS_OWN if name in defaults}
    if "repetition_penalty" in defaults:
        settings["repetition_penalty"] = defaults["repetition_penalty"]
    return settings


def grammar(request: Request, library: str, added_tokens: Collection[str] = ()) -> dict[str, Any] | None:
    """Arguments of `StructuredOutputsParams`; None for free text. `library` is the engine's grammar library.

    With llguidance ("guidance") JSON is written with one blank behind commas and colons, as `json.dumps` and chat
    templates write it, so that an answer stands in the next prompt as the same tokens.
    """
    guided = library == "guidance"
    if request.schema is not None:
        return {"json": {**request.schema, "x-guidance": _SPACED} if guided else dict(request.schema)}
    if request.only_tool is not None:
        tool = next(t for t in request.tools if t.name == request.only_tool)
        if guided:
            return {"grammar": call_grammar(tool, added_tokens)}
        return {"structural_tag": json.dumps(call_format(tool))}
    return None


def call_grammar(tool: ToolSpec, added_tokens: Collection[str]) -> str:
    """A Lark grammar for llguidance that lets through one call of the tool, as Hermes and Qwen2.5 write it, and nothing
    else. The tools in the prompt stay as they are, and so does its cached prefix.

    A tag that is a token of its own must be written as that token: the grammar names it without quotes.
    """
    opens, closes = (tag if tag in added_tokens else json.dumps(tag) for tag in ("<tool_call>", "</tool_call>"))
    begin = json.dumps(
        '\n{"name": ' + json.dumps(tool.name, ensure_ascii=False) + ', "arguments": ', ensure_ascii=False
    )
    rules = {"whitespace_flexible": False, **_SPACED}
    arguments = json.dumps({"additionalProperties": False, **tool.parameters, "x-guidance": rules})
    return f'start: {opens} {begin} arguments "}}\\n" {closes}\narguments: %json {arguments}\n'


def call_format(tool: ToolSpec) -> dict[str, Any]:
    """The same as a structural tag for xgrammar, which limits white space to one character at a place."""
    arguments = {"type": "json_schema", "json_schema": dict(tool.parameters), "max_whitespace_cnt": 1}
    begin = f'<tool_call>\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
    tag = {"type": "tag", "begin": begin, "content": arguments, "end": "}\n</tool_call>"}
    return {"type": "structural_tag", "format": tag}
