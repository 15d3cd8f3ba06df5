"""Options in a spec: `PATH?name=value&...`, beside those given by keyword."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from agentmem.errors import ConfigError


def split_target(target: str, kind: str = "backend") -> tuple[str, dict[str, Any]]:
    """`PATH?name=value&...` as path and options. A value is JSON where it can be read as such, else text.

    A target that exists as a path is one. Raises ConfigError for an option given twice or without a value.
    """
    if "?" not in target or os.path.exists(os.path.expanduser(target)):
        return target, {}
    path, _, query = target.partition("?")
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if not text:
            raise ConfigError(kind, target, f"the option {name!r} has no value", hint=f"write {name}=value")
        if name in options:
            raise ConfigError(kind, target, f"the option {name!r} is given twice")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return path, options


def merged(path: str, query: Mapping[str, Any], given: Mapping[str, Any], kind: str = "backend") -> dict[str, Any]:
    """The options of a spec string and those by keyword. Raises ConfigError for one that is in both."""
    if both := sorted(query.keys() & given.keys()):
        raise ConfigError(kind, path, f"{', '.join(both)}: given in the spec and as a keyword")
    return {**query, **given}
