"""Starting vLLM: its arguments made and checked, its processes started, and what went wrong said in words."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from agentmem.backends.chat_template import ChatTokenizer
from agentmem.backends.vllm_errors import start_error
from agentmem.backends.vllm_log import EngineLog
from agentmem.backends.vllm_options import check_names, memory_defaults, weight_bytes
from agentmem.backends.vllm_watch import Watch
from agentmem.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from agentmem.backends.vllm_loop import LoopThread
    from agentmem.backends.vllm_tool_parser import ToolParser

# Options that vLLM takes as objects of these classes; here they are plain mappings.
_CONFIGS = {
    "ec_transfer_config": "ECTransferConfig",
    "kv_events_config": "KVEventsConfig",
    "kv_transfer_config": "KVTransferConfig",
    "logging_config": "LoggingConfig",
    "profiler_config": "ProfilerConfig",
    "reasoning_config": "ReasoningConfig",
    "structured_outputs_config": "StructuredOutputsConfig",
}
# llguidance: xgrammar 0.2.8 lets raw control characters into a string that has a maxLength, and no escaped quote; that
# is no JSON. Without the rule for white space a model may write blanks between fields until its tokens are used up, and
# without that for properties, fields of its own.
_GRAMMARS: Mapping[str, Any] = {
    "backend": "guidance", "disable_any_whitespace": True, "disable_additional_properties": True
}  # fmt: skip
_GRACE_S = 20.0
_SET_HERE: set[str] = set()  # of the environment, by us and not by the user


@dataclass
class EngineStats:
    """The engine's counts, added up as its steps report them."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0

    def add(self, scheduler: Any) -> None:
        """Take in the scheduler's report of a step."""
        self.prefix_queries += scheduler.prefix_cache_stats.queries
        self.prefix_hits += scheduler.prefix_cache_stats.hits
        self.running, self.waiting = scheduler.num_running_reqs, scheduler.num_waiting_reqs
        self.cache_usage = scheduler.kv_cache_usage


@dataclass
class Engine:
    """A running engine, and what is known of it. `ending_ids` are the tokens after which an answer ends."""

    core: Any
    tokenizer: ChatTokenizer
    log: EngineLog
    stats: EngineStats
    watch: Watch
    parser: ToolParser | None
    window: int
    block_size: int | None
    device: str
    version: str
    can_sleep: bool
    ending_ids: frozenset[int]
    sampling_defaults: dict[str, Any]
    grammar_library: str
    added_tokens: frozenset[str]
    asleep: bool = False

    def prompt(self, ids: list[int], salt: str | None) -> Any:
        """The prompt as tokens. With a salt, it shares cached prefixes with those of the same salt alone."""
        from vllm import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=ids)
        if salt is not None:
            prompt["cache_salt"] = salt
        return prompt

    def sampling(self, settings: Mapping[str, Any], grammar: Mapping[str, Any] | None, streamed: bool) -> Any:
        """vLLM's sampling parameters. Raises ConfigError for what it refuses."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        kind = RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY
        try:
            structured = StructuredOutputsParams(**grammar) if grammar is not None else None
            return SamplingParams(**settings, structured_outputs=structured, output_kind=kind)
        except (ValueError, TypeError, VLLMClientError) as e:
            raise ConfigError("request", "...", f"vLLM refuses its settings: {e}") from e

    def shutdown(self) -> None:
        """End the engine's processes. They get time to leave by themselves: killed, they leak semaphores."""
        self.core.shutdown(_GRACE_S)
        multiprocessing.active_children()  # reaps what has ended
        self.watch.end()


def start_engine(path: str, options: Mapping[str, Any], own: Mapping[str, Any], loop: LoopThread) -> Engine:
    """Start vLLM on the loop's thread. `own` are the backend's own options.

    Raises ConfigError for options, models and memory that can't work; MissingExtraError without vLLM.
    """
    if find_spec("vllm") is None:
        raise MissingExtraError("the backend vllm:", "vllm", "vllm")
    prepare_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs

    check_names(options, [f.name for f in fields(AsyncEngineArgs)])
    tokenizer = ChatTokenizer.load(str(options.get("tokenizer") or path), template=own["template"], neutralise=True)
    path = _downloaded(path, options.get("revision"))
    parser = None
    if own["tool_parser"] is not None:
        from agentmem.backends.vllm_tool_parser import ToolParser

        parser = ToolParser(own["tool_parser"], tokenizer.tokenizer)
    log = EngineLog({k: v for k, v in os.environ.items() if k not in _SET_HERE})
    try:
        return _started(path, options, own, loop, tokenizer, parser, log)
    except BaseException:
        log.close()
        raise


def _downloaded(path: str, revision: str | None) -> str:
    """The folder of a hub's model in the local cache, so that nothing is asked of the hub; a folder as it is."""
    if os.path.isdir(path):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(path, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as e:
        raise ConfigError("model", path, "has not been downloaded", hint=f"hf download {path}") from e


def prepare_environment() -> None:
    """What must stand in the environment before vLLM is imported: no usage reports; nothing printed on stdout, and
    nothing but errors on stderr, unless the user set it otherwise."""
    os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"
    for name, value in (("VLLM_LOGGING_STREAM", "ext://sys.stderr"), ("VLLM_LOGGING_LEVEL", "ERROR")):
        if name not in os.environ:
            os.environ[name] = value
            _SET_HERE.add(name)


def _started(
    path: str,
    options: Mapping[str, Any],
    own: Mapping[str, Any],
    loop: LoopThread,
    tokenizer: ChatTokenizer,
    parser: ToolParser | None,
    log: EngineLog,
) -> Engine:
    import vllm
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    arguments: dict[str, Any] = {
        "enable_prefix_caching": True,
        "disable_log_stats": True,  # of vLLM's own loggers; ours counts
        "structured_outputs_config": _GRAMMARS,
        **({"logging_config": {"pylogging_config_file": log.settings}} if log.settings else {}),
        **options,
    }
    total, available = _memory(on_cpu)
    arguments |= memory_defaults(
        arguments,
        os.environ,
        on_cpu=on_cpu,
        total=total,
        available=available,
        weights=weight_bytes(path),
        reserve_gib=own["reserve_gib"],
    )
    stats = EngineStats()
    before = set(multiprocessing.active_children())
    core = loop.start(_make(path, arguments, stats, log)).result(lambda: _end_new_children(before))
    watch = Watch([p.pid for p in multiprocessing.active_children() if p not in before and p.pid is not None])
    config = core.vllm_config
    ends = config.model_config.try_get_generation_config().get("eos_token_id") or ()
    return Engine(
        core,
        tokenizer,
        log,
        stats,
        watch,
        parser,
        window=config.model_config.max_model_len,
        block_size=config.cache_config.block_size if config.cache_config.enable_prefix_caching else None,
        device=str(current_platform.device_type),
        version=vllm.__version__,
        can_sleep=bool(config.model_config.enable_sleep_mode),
        ending_ids=tokenizer.eos_ids | frozenset([ends] if isinstance(ends, int) else ends),
        sampling_defaults=config.model_config.get_diff_sampling_param(),
        grammar_library=config.structured_outputs_config.backend,
        added_tokens=frozenset(tokenizer.tokenizer.get_added_vocab()),
    )


def _memory(on_cpu: bool) -> tuple[int, int]:
    """Total and free memory of the device in bytes."""
    from vllm.platforms import current_platform

    if not on_cpu:
        total = int(current_platform.get_device_total_memory())
        return total, total
    from vllm.utils.cpu_resource_utils import get_memory_node_info, get_visible_memory_node

    node = get_memory_node_info(get_visible_memory_node()[0])
    return node.total_memory, node.available_memory


async def _make(path: str, arguments: Mapping[str, Any], stats: EngineStats, log: EngineLog) -> Any:
    from pydantic import ValidationError
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.exceptions import VLLMError
    from vllm.v1.engine.async_llm import AsyncLLM

    _shield_from_ctrl_c()
    try:
        made = AsyncEngineArgs(model=path, **{n: _typed(n, v) for n, v in arguments.items()})
        return AsyncLLM.from_engine_args(made, stat_loggers=[_stats_logger(stats)])
    except ValidationError as e:
        told = "; ".join(str(problem["msg"]) for problem in e.errors())
        raise start_error(told, arguments, path) from e
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, VLLMError) as e:
        raise start_error(str(e) or type(e).__name__, arguments, path) from e
    except RuntimeError as e:  # the engine's processes ended: the cause stands in their log
        raise start_error(log.cause() or _own_words(e), arguments, path) from e


def _shield_from_ctrl_c() -> None:
    """Block SIGINT in this thread; the processes that it starts inherit that.

    Ctrl-C in a terminal goes to every process of the foreground, and must interrupt an answer, not end the engine.
    multiprocessing's tracker is started first: its start would unblock the signal again.
    """
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _end_new_children(before: Set[BaseProcess]) -> None:
    """A start that was interrupted: it fails at once when its process is gone, and takes long else."""
    for process in multiprocessing.active_children():
        if process not in before and process.name.startswith("EngineCore"):
            process.kill()


def _own_words(error: RuntimeError) -> str:
    return "" if "See root cause above" in str(error) else str(error)


def _typed(name: str, value: Any) -> Any:
    if name not in _CONFIGS or not isinstance(value, Mapping):
        return value
    import vllm.config

    return getattr(vllm.config, _CONFIGS[name])(**value)


def _stats_logger(stats: EngineStats) -> Any:
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Counting(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(self, scheduler_stats: Any, iteration_stats: Any, *rest: Any, **more: Any) -> None:
            if scheduler_stats is not None:
                stats.add(scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

    return Counting
