"""The arithmetic of the window."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from agentmem.budget import Budget
from agentmem.config import MemoryConfig
from agentmem.errors import ConfigError
from agentmem.types import Pressure


@given(
    window=st.integers(128, 200_000), reserve=st.none() | st.integers(16, 4000), page=st.floats(0.01, 0.45),
    most=st.integers(0, 5000), shares=st.tuples(*[st.floats(0.01, 1)] * 3),
)  # fmt: skip
def test_limits_are_in_order(
    window: int, reserve: int | None, page: float, most: int, shares: tuple[float, float, float]
) -> None:
    target, warn, flush = sorted(shares)
    assume(target < warn < flush)
    try:
        config = MemoryConfig.create(
            window_tokens=window, reserve_tokens=reserve, page_in_share=page, page_in_max_tokens=most,
            target_share=target, warn_share=warn, flush_share=flush,
        )  # fmt: skip
    except ConfigError as e:
        assert reserve is not None and reserve >= window - 64, e
        return
    budget = Budget.of(config)
    assert budget.max_tokens == window - config.reserve >= 64
    assert budget.target_tokens <= budget.warn_tokens <= budget.flush_tokens <= budget.max_tokens
    assert 0 <= budget.page_floor <= min(budget.max_tokens // 2, budget.page_max)
    assert 16 <= budget.summary_tokens <= max(16, budget.max_tokens // 10)
    for used in (0, budget.warn_tokens, budget.warn_tokens + 1, budget.flush_tokens, budget.flush_tokens + 1):
        expected = (
            Pressure.FLUSH
            if used > budget.flush_tokens
            else Pressure.WARN
            if used > budget.warn_tokens
            else Pressure.NONE
        )
        assert budget.pressure(used) is expected


def test_the_defaults() -> None:
    budget = Budget.of(MemoryConfig())
    assert (budget.max_tokens, budget.warn_tokens, budget.flush_tokens, budget.target_tokens) == (
        3584,
        2508,
        3225,
        1792,
    )
    assert (budget.page_floor, budget.summary_tokens, budget.entry_tokens) == (896, 200, 448)
