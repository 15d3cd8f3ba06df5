"""The door for soft prompts in vLLM: rows and tokens in one prompt, handed to the engine in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from agentmem.backends.model_fingerprint import model_fingerprint
from agentmem.errors import ConfigError
from agentmem.soft_prompts import SoftPrompt


class SoftPromptDoor:
    """Looks at soft prompts before the engine sees them, as vLLM may crash on rows of a wrong shape.

    `config` is the engine's ModelConfig. vLLM gets the rows, and the tokens of the text as tokens, which it embeds
    itself: so no second copy of the embedding matrix is needed, and a model that scales its embeddings does so.
    """

    def __init__(self, name: str, config: Any) -> None:
        self._name = name
        self._path = str(config.model)
        self._open = bool(config.enable_prompt_embeds)
        self._hidden = int(config.get_inputs_embeds_size())
        self._dtype: Any = config.dtype

    @cached_property
    def _fingerprint(self) -> str:
        return model_fingerprint(self._path)

    def model(self) -> str:
        """Fingerprint of the served weights. Raises ConfigError where the engine takes no soft prompts."""
        if not self._open:
            hint = "make the backend with enable_prompt_embeds=True"
            raise ConfigError("enable_prompt_embeds", False, "soft prompts need it", hint=hint)
        return self._fingerprint

    def pairs(self, requests: Sequence[Any], soft: Sequence[SoftPrompt | None]) -> list[tuple[Any, SoftPrompt | None]]:
        """Requests with their soft prompts. Raises ConfigError when there are not as many of both."""
        if len(requests) != len(soft):
            hint = "give None where a request has no soft prompt"
            raise ConfigError("soft", len(soft), f"there are {len(requests)} requests", hint=hint)
        return list(zip(requests, soft, strict=True))

    def rows(self, soft: SoftPrompt | None) -> int:
        """How many rows a soft prompt has, 0 for None. Raises ConfigError for one that this engine can't take."""
        if soft is None:
            return 0
        if not isinstance(soft, SoftPrompt):
            raise ConfigError(
                "soft", type(soft).__name__, "must be a SoftPrompt or None", hint="SoftPrompt(rows, model)"
            )
        model = self.model()
        if soft.hidden != self._hidden:
            hint = "use the encoder that was trained for this model"
            raise ConfigError("soft", soft, f"{self._name} takes rows of {self._hidden}", hint=hint)
        if soft.model != model:
            hint = "use the encoder that was trained for this model: rows mean nothing to another one"
            raise ConfigError("soft", soft, f"was made for another model; {self._name} is {model[:12]}", hint=hint)
        return len(soft)

    def prompt(self, soft: SoftPrompt, ids: Sequence[int], salt: str | None) -> Any:
        """The soft prompt, then the tokens, as vLLM's EmbedsPrompt. `rows` must have let it through.

        Raises ConfigError for values beyond the engine's dtype.
        """
        import torch
        from vllm.inputs import EmbedsPrompt

        own = len(soft)
        # vLLM 0.32 hashes the tensor and the ids of a block for its prefix cache, but not which rows are tokens
        # (vllm-project/vllm#56655): rows of -0.0 say it, since no row of a soft prompt is left with one.
        rows = torch.full((own + len(ids), self._hidden), -0.0, dtype=self._dtype)
        rows[:own] = torch.tensor(soft.rows).to(self._dtype) + 0.0
        if not bool(rows[:own].isfinite().all()):
            hint = "serve the model in bfloat16 or float32"
            raise ConfigError("soft", soft, f"holds values that {self._dtype} can't hold", hint=hint)
        prompt = EmbedsPrompt(
            prompt_embeds=rows,
            # Stand-ins: a token that is in the prompt anyway, so that a repetition penalty hits no other.
            prompt_token_ids=[ids[0]] * own + list(ids),
            prompt_is_token_ids=[False] * own + [True] * len(ids),
        )
        if salt is not None:
            prompt["cache_salt"] = salt
        return prompt
