"""The package llmlingua 0.2.2 on a current transformers and without a network, as subclasses of its one class.

Nothing outside these classes is changed. What they put right: the constructor's tiktoken call, which downloads; nltk's
sentence splitter, which needs data; the key/value lists, which transformers 5 no longer takes (two hooks on the own
network); the family that is guessed from a path; the global seeds that are set. And they tell *which* of its tokens the
package kept, where it gives a text. Load it by `load_causal` and `load_classifier` of the modules beside it.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llmlingua import PromptCompressor
from torch.utils.data import DataLoader
from transformers import DynamicCache

from agentmem.language import sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

BERT, XLMR = "bert-base-multilingual-cased", "xlm-roberta-large"
_BATCH = 16
_MOST_TOKENS = 512


class TokenCount:
    """Stands where the package has OpenAI's tokenizer, and counts as `count` does."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self.count = count

    def encode(self, text: str) -> range:
        """As many things as the text has tokens, one at the least."""
        return range(max(1, self.count(text.replace("▁", ""))))


class _Sentences:
    """Stands where the package has nltk: sentences with the white space behind them, so that they make up the text."""

    @staticmethod
    def sent_tokenize(text: str) -> list[str]:
        starts = [0, *(s for s, _ in sentences(text)[1:]), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(starts)]


def _seeing(function: Any, **names: Any) -> Any:
    """A function of the package that finds other things under some global names; the package's own is untouched."""
    return types.FunctionType(
        function.__code__, {**function.__globals__, **names}, function.__name__, function.__defaults__
    )


class _Package(PromptCompressor):  # type: ignore[misc]
    """What both kinds share: fields that the package's constructor would set after loading from the network."""

    control_sentence_budget = _seeing(PromptCompressor.control_sentence_budget, nltk=_Sentences)

    def __init__(self, network: Any, tokenizer: Any, device: Any, most_tokens: int) -> None:
        self.retrieval_model = self.retrieval_model_name = None
        self.open_api_config: dict[str, Any] = {}
        self.cache_bos_num, self.prefix_bos_num = 10, 100
        self.oai_tokenizer = TokenCount(len)
        self.model, self.tokenizer, self.device = network, tokenizer, device
        self.context_idxs: list[list[int]] = []
        self.max_position_embeddings = most_tokens


class CausalPackage(_Package):
    """LLMLingua and LongLLMLingua (arXiv 2310.05736, 2310.06839) over a causal network in evaluation mode."""

    model_name, use_llmlingua2 = "causal", False

    def __init__(self, network: Any, tokenizer: Any, device: Any, most_tokens: int) -> None:
        super().__init__(network, tokenizer, device, most_tokens)
        network.register_forward_pre_hook(_cache_from_lists, with_kwargs=True)
        network.register_forward_hook(_lists_from_cache)
        self._segment: int | None = None
        self._used: list[int] = []
        self._joined = ""
        self._start = 0
        self._places: Any = None
        self._gone: list[Any] = []
        self._known: dict[Hashable, Any] | None = None

    @contextmanager
    def reading_once(self, known: dict[Hashable, Any]) -> Iterator[None]:
        """Within it no whole text is read twice: how likely its tokens are is kept in `known`."""
        self._known = known
        try:
            yield
        finally:
            self._known = None

    def kept(
        self, contexts: Sequence[str], target_tokens: float, *, segment: int, question: str = "", spread: float = 0.0
    ) -> list[NDArray[np.bool_]]:
        """Which characters of each context the package keeps, aiming at `target_tokens` of its own tokenizer.

        With a question: LongLLMLingua (documents ranked by how likely they make it, tokens by contrastive perplexity,
        `spread` added to the rate of the best document and taken from the worst). Contexts are not empty and have at
        least two tokens. Tokens are dropped in segments of at most `segment` tokens of about one length: the package
        leaves what is behind the last whole segment as it is.
        """
        self._segment, self._used = segment, list(range(len(contexts)))
        self.context_idxs = []
        how: dict[str, Any] = {"rank_method": "llmlingua"}
        if question:
            how = {
                "rank_method": "longllmlingua",
                "condition_in_question": "after_condition",
                "condition_compare": True,
                "dynamic_context_compression_ratio": spread,
            }
        try:
            self.compress_prompt(
                list(contexts), question=question, target_token=target_tokens, iterative_size=segment,
                reorder_context="original", concate_question=False, **how,
            )  # fmt: skip
        finally:
            self._segment = None
        return self._masks(contexts)

    def _masks(self, contexts: Sequence[str]) -> list[NDArray[np.bool_]]:
        offsets = np.array(self.offsets(self._joined)[self._start :], np.int64).reshape(-1, 2)
        there = np.ones(len(offsets), bool)
        if self._places is not None:
            places = torch.cat([*self._gone, self._places], dim=1)[0].cpu().numpy() - self._start
            there[:] = False
            there[places[places >= 0]] = True
        joined = np.zeros(len(self._joined), bool)
        for start, end in offsets[there]:
            joined[start:end] = True
        out = [np.zeros(len(c), bool) for c in contexts]
        at = len(self._joined) - sum(len(contexts[n]) for n in self._used) - 2 * (len(self._used) - 1)
        for n in self._used:
            out[n] = joined[at : at + len(contexts[n])]
            at += len(contexts[n]) + 2
        return out

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of a text stand in it, in characters."""
        found: list[tuple[int, int]] = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return found

    # -- steps of the package ---------------------------------------------------------------------------------

    def get_ppl(
        self, text: str, granularity: str = "sentence", input_ids: Any = None, attention_mask: Any = None,
        past_key_values: Any = None, return_kv: bool = False, end: Any = None, **condition: Any,
    ) -> Any:  # fmt: skip
        """The package's pass of the network. One over a whole text depends on no rate; the package does not go on from
        the keys and values of such a one."""
        if self._known is None or past_key_values is not None or end is not None:
            return super().get_ppl(
                text, granularity, input_ids, attention_mask, past_key_values, return_kv, end, **condition
            )
        ids = None if input_ids is None else input_ids.cpu().numpy().tobytes()
        read = (text, granularity, ids, *sorted(condition.items()))
        if read not in self._known:
            self._known[read] = super().get_ppl(text, granularity, input_ids, attention_mask, **condition)
        loss = self._known[read].clone()  # the package may write into it
        return (loss, None) if return_kv else loss

    def control_context_budget(self, *args: Any, **kwargs: Any) -> Any:
        """The package's coarse step; notes which contexts are left."""
        found = super().control_context_budget(*args, **kwargs)
        self._used = list(found[2])
        return found

    def get_prefix_length(self, prefix: str, text: str) -> int:
        """How many tokens a prefix has before a text. The package finds the same number by decoding, and fails where
        decoding does not give back the text."""
        ends = [end for _, end in self.offsets(prefix + text[:100])]
        return max(1, next((n for n, end in enumerate(ends) if end > len(prefix)), len(ends)))

    def get_dynamic_compression_ratio(
        self, context: Any, target_token: float, iterative_size: int, *args: Any, **kwargs: Any
    ) -> Any:
        """The package's list of rates, gone on with: texts may have more tokens joined than apart, and the package
        then reads behind its end."""
        found = super().get_dynamic_compression_ratio(context, target_token, iterative_size, *args, **kwargs)
        return found + [[(iterative_size, found[-1][-1][1])]] * (len(found) + 2)

    def iterative_compress_prompt(
        self, context: Any, target_token: float, iterative_size: int = 200, *args: Any, start: int = 0, **kwargs: Any
    ) -> Any:
        """The package's fine step; notes what it is over."""
        self._joined, self._start = "\n\n".join(context), start
        self._places, self._gone = None, []
        if self._segment is not None:
            tokens = max(1, len(self.offsets(self._joined)) - start)
            iterative_size = max(1, tokens // -(-tokens // self._segment))
        return super().iterative_compress_prompt(context, target_token, iterative_size, *args, start=start, **kwargs)

    def get_compressed_input(self, loss: Any, input_ids: Any, attention_mask: Any, end: Any = 200, **rest: Any) -> Any:
        """The package's choice in a segment, made once more over the places of the tokens instead of their ids."""
        if self._places is None:
            self._places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        cut = self._places.shape[1] - input_ids.shape[1]
        if cut:  # the package moved them out of a full window
            self._gone.append(self._places[:, :cut])
            self._places = self._places[:, cut:]
        # `end` may be a tensor, which the package changes.
        same = end.clone() if isinstance(end, torch.Tensor) else end
        self._places = super().get_compressed_input(loss, self._places, attention_mask, same, **rest)[0]
        return super().get_compressed_input(loss, input_ids, attention_mask, end, **rest)


def _cache_from_lists(network: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A cache of the package's lists of keys and values. A cache without the network's settings keeps all tokens, in
    layers with a sliding window too."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(kwargs.get("past_key_values") or ()):
        cache.update(keys, values, layer)
    return args, {**kwargs, "past_key_values": cache}


def _lists_from_cache(network: Any, args: Any, output: Any) -> Any:
    output.past_key_values = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
    return output


def _rows(dataset: Any, **how: Any) -> Any:
    """The package's loader of rows; it would draw a seed, which it does not need, from the process's generator."""
    return DataLoader(dataset, generator=torch.Generator(), **how)


class ClassifierPackage(_Package):
    """LLMLingua-2 (arXiv 2403.12968) over a token classifier in evaluation mode. `family` is BERT or XLMR."""

    use_llmlingua2 = True
    _PromptCompressor__compress = _seeing(PromptCompressor._PromptCompressor__compress, DataLoader=_rows)

    def __init__(self, network: Any, tokenizer: Any, device: Any, most_tokens: int, family: str) -> None:
        super().__init__(_short_rows(network), tokenizer, device, most_tokens)
        self.model_name = family
        self.max_batch_size, self.max_seq_len = _BATCH, min(_MOST_TOKENS, most_tokens)
        # The package adds these to the vocabulary, with random weights; only force tokens of several tokens need them.
        self.max_force_token = 100
        self.added_tokens = [f"[NEW{n}]" for n in range(self.max_force_token)]
        known = tokenizer.special_tokens_map.items()
        self.special_tokens = {v for k, v in known if k != "additional_special_tokens"}
        self._chunks: list[int] = []
        self._words: list[list[str]] = []
        self._likely: list[list[float]] = []

    def words(self, contexts: Sequence[str]) -> list[list[tuple[list[str], list[float]]]]:
        """For each context, for each piece of at most 512 tokens that the package cuts it into: its words, and how
        likely each is to be kept. Words with a digit are certain."""
        self._chunks, self._words, self._likely = [], [], []
        self.compress_prompt(list(contexts), rate=0.5, use_context_level_filter=False, force_reserve_digit=True)
        pairs = iter(zip(self._words, self._likely, strict=True))
        return [[next(pairs) for _ in range(count)] for count in self._chunks]

    # -- steps of the package ---------------------------------------------------------------------------------

    def _PromptCompressor__chunk_context(self, origin_text: str, chunk_end_tokens: Any) -> Any:
        found = super()._PromptCompressor__chunk_context(origin_text, chunk_end_tokens)
        self._chunks.append(len(found))
        return found

    def _PromptCompressor__merge_token_to_word(self, tokens: Any, token_probs: Any, **how: Any) -> Any:
        first = next((t for t in tokens if t not in self.special_tokens), None)
        if self.model_name == XLMR and first is not None and not first.startswith("▁"):
            # Behind a sign that the vocabulary lacks a word may begin as the rest of one, where the package fails.
            tokens, token_probs = ["▁", *tokens], [token_probs[0], *token_probs]
        found = super()._PromptCompressor__merge_token_to_word(tokens, token_probs, **how)
        found = found if found[0] else ([""], [[0.0]], [[0.0]])  # the package takes a percentile of it
        self._words.append([w.lstrip("▁") for w in found[0]])
        return found

    def _PromptCompressor__token_prob_to_word_prob(self, token_probs: Any, convert_mode: str = "mean") -> Any:
        found = super()._PromptCompressor__token_prob_to_word_prob(token_probs, convert_mode)
        self._likely.append([float(p) for p in found])
        return found


def _short_rows(network: Any) -> Callable[..., Any]:
    """The network over rows as long as their longest text: the package fills up each to 512 tokens."""

    def run(input_ids: Any, attention_mask: Any) -> Any:
        width = max(1, int(attention_mask.sum(dim=1).max()))
        logits = network(input_ids=input_ids[:, :width], attention_mask=attention_mask[:, :width]).logits
        full = logits.new_zeros((*input_ids.shape, logits.shape[-1]))
        full[:, :width] = logits
        return types.SimpleNamespace(loss=None, logits=full)

    return run
