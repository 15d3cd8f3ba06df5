"""The options of a compressor with a model: in its spec (`PATH?name=value&...`) or by keyword, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentmem.compressors.causal_scorer import DTYPES
from agentmem.errors import ConfigError
from agentmem.spec_options import merged, split_target

MODEL_OPTIONS: dict[str, Any] = {"device": "auto", "dtype": "auto"}


def options_of(target: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path in a spec, and all options, those not given as in `defaults`.

    Raises ConfigError for one that is not known, given twice, or not of its kind.
    """
    path, query = split_target(target, "compressor")
    found = merged(path, query, given, "compressor")
    if unknown := sorted(found.keys() - defaults.keys()):
        problem = f"unknown option {', '.join(map(repr, unknown))}"
        raise ConfigError("compressor", target, problem, hint=f"known: {', '.join(sorted(defaults))}")
    options = {**defaults, **found}
    if "dtype" in options and options["dtype"] not in DTYPES:
        raise ConfigError("dtype", options["dtype"], "is not known", hint=f"one of {', '.join(DTYPES)}")
    if not isinstance(options.get("device", ""), str):
        raise ConfigError("device", options["device"], "is no text", hint="auto, cpu, cuda or cuda:N")
    return path, options


def words_of(given: object) -> frozenset[str]:
    """Words to keep, lower case: a list, or a text with commas or spaces between them."""
    if isinstance(given, str):
        given = given.replace(",", " ").split()
    if not isinstance(given, Sequence | frozenset | set) or not all(isinstance(w, str) for w in given):
        raise ConfigError("keep", given, "is no list of words", hint='keep=vegan,Lisbon or keep=["vegan", "Lisbon"]')
    return frozenset(w.lower() for w in given)
