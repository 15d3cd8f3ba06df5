"""Models for tests of strategies: each answers by what it is asked, so that it does not matter in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request

LINE = re.compile(r"^\[(\d+)\] \((\S+)\) ([^:]*): (.*)$", re.MULTILINE)
Answer = Callable[[Request], str]


def shown(request: Request) -> list[tuple[int, str]]:
    """The numbered records of a prompt."""
    return [(int(n), text) for n, _, _, text in LINE.findall(request.messages[-1].content)]


def backend(answer: Answer, most: int = 500) -> ScriptedBackend:
    """A backend that answers every request by a function."""
    return ScriptedBackend([lambda request: Completion(answer(request))] * most)


def as_json(**value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def rated(request: Request, importance: int = 5) -> str:
    return as_json(ratings=[{"record": n, "importance": importance} for n, _ in shown(request)])


def system(request: Request) -> str:
    return request.messages[0].content
