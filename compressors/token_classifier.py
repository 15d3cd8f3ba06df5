"""A token classifier in a folder: checked and loaded for the package llmlingua."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmem.compressors.causal_scorer import quiet, short_of_memory
from agentmem.devices import device_of
from agentmem.errors import ConfigError

if TYPE_CHECKING:
    from agentmem.compressors.llmlingua_package import ClassifierPackage

HINT = "give a folder with the config.json, safetensors weights and tokenizer.json of an LLMLingua-2 model"
FAMILIES = ("bert", "xlm-roberta")


def load_classifier(path: str, *, name: str, dtype: str, device: str) -> ClassifierPackage:
    """The classifier in a folder of any name: which family it is, its config.json says.

    `device` "auto" is CUDA where there is one; `dtype` "auto" float32. Weights are read from safetensors files only;
    code that came with a model is never run. Raises ConfigError for what is no such classifier, or not whole;
    CompressionError when memory is short.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    from agentmem.compressors.llmlingua_package import BERT, XLMR, ClassifierPackage

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    where = device_of(device)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(path, **options)
            _check_kind(path, config)
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
            network, found = AutoModelForTokenClassification.from_pretrained(
                path, dtype="float32" if dtype == "auto" else dtype, output_loading_info=True, use_safetensors=True,
                **options,
            )  # fmt: skip
        network = network.to(where).eval()
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise short_of_memory(name, f"the model {path}") from e
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as e:
        if isinstance(e, ConfigError):
            raise
        first = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise ConfigError("model", path, f"can't be loaded: {first}", hint=HINT) from e
    # What a checkpoint lacks would be random numbers, and so would the choice.
    if lacking := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise ConfigError("model", path, f"lacks {len(lacking)} of its weights, e.g. {lacking[0]}", hint=HINT)
    _check_tokenizer(path, tokenizer)
    # XLM-RoBERTa counts its places from behind the filling token's id.
    most = int(config.max_position_embeddings) - (0 if config.model_type == "bert" else int(config.pad_token_id) + 1)
    family = BERT if config.model_type == "bert" else XLMR
    return ClassifierPackage(network, tokenizer, where, most, family)


def _check_kind(path: str, config: Any) -> None:
    names = getattr(config, "architectures", None) or [type(config).__name__]
    if not any("ForTokenClassification" in n for n in names):
        raise ConfigError("model", path, f"holds a {', '.join(names)}, which is no token classifier", hint=HINT)
    if config.model_type not in FAMILIES:
        problem = f"is of the family {config.model_type!r}, which the package llmlingua does not know"
        raise ConfigError("model", path, problem, hint=f"one of {', '.join(FAMILIES)}")
    if config.num_labels != 2:
        raise ConfigError("model", path, f"tells {config.num_labels} labels apart, not keep and leave out", hint=HINT)


def _check_tokenizer(path: str, tokenizer: Any) -> None:
    """The package surrounds and fills up every text with these, for both families; what is not in the vocabulary
    becomes the unknown token."""
    lacking = [t for t in ("[CLS]", "[SEP]", "[PAD]") if tokenizer.convert_tokens_to_ids(t) is None]
    if lacking:
        problem = f"its tokenizer has neither {lacking[0]} nor an unknown token"
        raise ConfigError("model", path, problem, hint="set unk_token in its tokenizer_config.json")
