"""Settings: wrong ones are refused by name, and none changes afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from agentmem.config import AgentConfig, MemoryConfig
from agentmem.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"window_tokens": 10}, "window_tokens"),
        ({"window_tokens": "many"}, "window_tokens"),
        ({"keep_last": 0}, "keep_last"),
        ({"windows": 4096}, "windows"),
        ({"page_in_share": 0.6}, "page_in_share"),
        ({"warn_share": 0.4}, "settings"),
        ({"flush_share": 0.6}, "settings"),
        ({"window_tokens": 256, "reserve_tokens": 200}, "settings"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as e:
        MemoryConfig.create(**values)
    assert e.value.field == field and "window_tokens" in e.value.hint


def test_settings_do_not_change() -> None:
    config = MemoryConfig.create(window_tokens=1000)
    with pytest.raises(ValueError):
        config.window_tokens = 5  # type: ignore[misc]
    assert (config.reserve, MemoryConfig().reserve, MemoryConfig(window_tokens=100_000).reserve) == (125, 512, 512)
    assert MemoryConfig(reserve_tokens=64).reserve == 64
    with pytest.raises(ConfigError):
        AgentConfig.create(max_steps=0)
