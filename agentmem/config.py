"""Settings of a memory and of an agent: validated once, immutable afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agentmem.errors import ConfigError


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def create(cls, **values: Any) -> Self:
        """Validate settings. Raises ConfigError naming the field, the value and what is allowed."""
        try:
            return cls(**values)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "settings"
            known = ", ".join(cls.model_fields)
            raise ConfigError(
                field, values.get(field, first.get("input")), first["msg"], hint=f"settings: {known}"
            ) from e


class MemoryConfig(_Settings):
    """How the prompt is laid out and when it is flushed. Shares are of the window less the reply's reserve."""

    window_tokens: int = Field(4096, ge=128, le=100_000_000)
    """The model's context window."""
    reserve_tokens: int | None = Field(None, ge=16)
    """Kept free for the reply; None: an eighth of the window, 512 at most."""
    warn_share: float = Field(0.70, gt=0, le=1)
    """Above this share the model is told to save what matters."""
    flush_share: float = Field(0.90, gt=0, le=1)
    """Above this share the oldest turns are paged out."""
    target_share: float = Field(0.50, gt=0, le=1)
    """A flush brings the prompt down to this share."""
    page_in_share: float = Field(0.25, gt=0, le=0.5)
    """The share that is always kept for what is paged in; more is used when it is free."""
    page_in_max_tokens: int = Field(3000, ge=0)
    """No page-in is larger than this, however much is free."""
    keep_last: int = Field(3, ge=1)
    """So many newest messages are never paged out."""
    summary_max_tokens: int = Field(200, ge=16)
    """Limit of the recursive summary; in small windows a tenth of the budget, if that is less."""
    history_share: float = Field(0.0625, ge=0, le=0.25)
    """The share for the compressed history: what left the queue last, shortened. 0 keeps none."""
    page_size: int = Field(5, ge=1, le=100)
    """Results a page of the search tools."""
    block_max_tokens: int = Field(256, ge=8)
    """Limit of a core-memory block that is made without one of its own."""
    page_order: Literal["time", "best-first", "best-last", "outside-in"] = "time"
    """Where paged-in passages without a time of their own stand (`agentmem.ordering`); the dated always stand by time.
    `agentmem cap --position` measures which suits the served model."""
    companion: bool = False
    """Rank by when a record was last used and how much it matters too (`agentmem.companion`): for characters that live
    in the present. It harms the answering of questions about the past."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.target_share < self.warn_share < self.flush_share:
            raise ValueError("target_share < warn_share < flush_share must hold")
        if self.reserve >= self.window_tokens - 64:
            raise ValueError("reserve_tokens leaves no room for a prompt in window_tokens")
        return self

    @property
    def reserve(self) -> int:
        """Tokens kept free for the reply."""
        return min(512, self.window_tokens // 8) if self.reserve_tokens is None else self.reserve_tokens


class AnswerCategory(_Settings):
    """When an answer of one kind of question is given again while nothing changes in memory."""

    threshold: float = Field(0.95, gt=0, le=1)
    """The least cosine between the two questions; 1 asks for the same question, up to rounding."""
    ttl_s: float = Field(3600.0, gt=0, allow_inf_nan=False)
    """So many seconds an answer is kept, by the memory's clock."""
    max_entries: int = Field(1000, ge=1, le=10_000)
    """So many answers of the category; the oldest go first."""


class AgentConfig(_Settings):
    """Limits of the agent loop."""

    max_steps: int = Field(8, ge=1, le=100)
    """Model calls a turn, the reply included."""
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int | None = None
    tools: Literal["auto", "native", "json", "off"] = "auto"
    """How the memory tools reach a model: by its own tool calls, as JSON actions under a schema, not at all; `auto` is
    the first of these that the backend can do. True and False stand for `auto` and `off`."""
    cache_salt: str | None = Field(None, min_length=1, max_length=256)
    """Agents of different salts share no cached prefix on the engine: for tenants that must not learn of each other by
    its timing. It costs the sharing of the instructions."""
    answer_cache: Mapping[Annotated[str, Field(min_length=1, max_length=200)], AnswerCategory] = Field({})
    """The categories of which answers are kept (`agentmem.answer_cache`); none of them is by itself."""

    @field_validator("tools", mode="before")
    @classmethod
    def _tools(cls, value: object) -> object:
        return ("off", "auto")[value] if isinstance(value, bool) else value
