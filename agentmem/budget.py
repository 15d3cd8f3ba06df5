"""The arithmetic of the window: how many tokens a prompt may have, and when it is too full. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.types import Pressure

if TYPE_CHECKING:
    from agentmem.config import MemoryConfig


@dataclass(frozen=True, slots=True)
class Budget:
    """Token limits of a prompt. `max_tokens` is the window less the reply's reserve.

    A prompt is measured with `page_floor` tokens for what will be paged in, so that the queue can never take them;
    before a turn with a model that calls tools, with `turn_room` for the results too.
    """

    max_tokens: int
    warn_tokens: int
    flush_tokens: int
    target_tokens: int
    page_floor: int
    page_max: int
    turn_room: int
    summary_tokens: int
    history_tokens: int
    entry_tokens: int

    @classmethod
    def of(cls, config: MemoryConfig) -> Budget:
        """The limits that follow from a configuration."""
        total = config.window_tokens - config.reserve
        return cls(
            max_tokens=total,
            warn_tokens=int(total * config.warn_share),
            flush_tokens=int(total * config.flush_share),
            target_tokens=int(total * config.target_share),
            page_floor=min(int(total * config.page_in_share), config.page_in_max_tokens),
            page_max=config.page_in_max_tokens,
            turn_room=total // 16,
            summary_tokens=max(16, min(config.summary_max_tokens, total // 10)),
            history_tokens=int(total * config.history_share),
            entry_tokens=max(24, total // 8),
        )

    def pressure(self, used_tokens: int) -> Pressure:
        """How full a prompt of `used_tokens` (page floor included) is."""
        if used_tokens > self.flush_tokens:
            return Pressure.FLUSH
        return Pressure.WARN if used_tokens > self.warn_tokens else Pressure.NONE
