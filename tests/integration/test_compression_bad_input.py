"""Bad input to compression: what was given wrongly is said with its remedy, what is useless changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentmem import Agent, Memory
from agentmem.compression import CompressionRequest, Part, shown
from agentmem.compressor_contract import STORY
from agentmem.compressors.extractive import ExtractiveCompressor
from agentmem.errors import ConfigError, InvalidInputError, UnknownNameError
from agentmem.registry import COMPRESSORS, NEEDS_ARGUMENT, make_compressor
from agentmem.tokens import approximate_counter
from tests.cli.conftest import LONG, NO_MODEL, Ran, message, run_here, write_lines
from tests.counters import word_counter

Make = Callable[..., Memory]
OF_A_MODEL = sorted(COMPRESSORS.keys() & NEEDS_ARGUMENT.keys())
HAVE_MODELS = ("selective",)
"""Those that need torch and transformers alone."""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty long messages: no page holds them whole."""
    folder = tmp_path_factory.mktemp("db")
    rows = [message(f"D1:{n}", f"{LONG[:300]} {n}", f"2023-05-08T10:{n:02d}:00") for n in range(30)]
    done = run_here("ingest", write_lines(folder / "h.jsonl", rows), "--db", folder / "m.db", *NO_MODEL, "--json")
    assert done.document["stored"] == 30
    return folder / "m.db"


def page_in(db: Path, spec: str, *more: str) -> Ran:
    asked = ("page-in", "What did we see on the tram tour?", "--max-tokens", "150")
    return run_here(*asked, "--db", db, "--compressor", spec, "--json", *more)


# -- specs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OF_A_MODEL, "code"])
def test_a_model_path_that_is_not_there(name: str, db: Path) -> None:
    if any(find_spec(m) is None for m in ("torch", "transformers" if name in HAVE_MODELS else "llmlingua")):
        pytest.skip("its packages are not installed")
    path = "/no such model"
    done = page_in(db, f"{name}:{path}")
    assert done.code == 2 and done.out == ""
    assert path in done.err and "hint: " in done.err and "Traceback" not in done.err
    with pytest.raises(ConfigError) as caught:
        make_compressor(f"{name}:{path}")
    assert caught.value.hint


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_a_model_that_is_not_named(name: str, db: Path) -> None:
    done = page_in(db, name)
    assert done.code == 2 and done.out == ""
    assert "lacks its argument" in done.err and f"{name}:models/" in done.err


@pytest.mark.parametrize(
    ("spec", "code", "says"),
    [
        ("nope", 1, "known: code, extractive"),
        ("", 1, "known: code, extractive"),
        (":", 1, "known: code, extractive"),
        ("none:x", 1, "known: code, extractive"),
        ("extractive?words=false", 1, "known: code, extractive"),
        ("my.module:Nope", 2, "can't be imported"),
        ("agentmem.memory:Nope", 2, "can't be imported"),
        ("extractive:depth=3", 2, "options: words, keep"),
        ("extractive:keep=", 2, "has no value"),
        ("extractive:keep=a&keep=b", 2, "given twice"),
        ("code:?depth=3", 2, "depth"),
    ],
)
def test_a_spec_that_is_none(spec: str, code: int, says: str, db: Path) -> None:
    done = page_in(db, spec)
    assert (done.code, done.out) == (code, "") and says in done.err and "Traceback" not in done.err
    with pytest.raises((UnknownNameError, ConfigError)) as caught:
        make_compressor(spec)
    assert caught.value.hint or "can't be imported" in str(caught.value) or "twice" in str(caught.value)


@pytest.mark.parametrize("command", ["page-in", "context", "ask"])
def test_every_command_says_so(command: str, db: Path) -> None:
    done = run_here(command, "What?", "--db", db, "--compressor", "nope")
    assert done.code == 1 and "unknown compressor 'nope'" in done.err


def test_options_that_are_known(db: Path) -> None:
    short = page_in(db, "extractive").document
    firm = page_in(db, "extractive:words=false&keep=tram,tour").document
    none = page_in(db, "none").document
    assert all(d["num_tokens"] <= 150 for d in (short, firm, none))
    assert len(short["shortened"]) > len(none["shortened"])


def test_options_in_code() -> None:
    assert ExtractiveCompressor("words=false").fingerprint == ExtractiveCompressor(words=False).fingerprint
    assert ExtractiveCompressor("keep=b,A").fingerprint == ExtractiveCompressor(keep=("a", "B")).fingerprint
    assert len({ExtractiveCompressor(o).fingerprint for o in ("", "words=false", "keep=a", "keep=a&words=false")}) == 4


# -- a model that can't be used ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", HAVE_MODELS)
@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_what_is_needed(name: str, gone: str, db: Path, tmp_path: Path) -> None:
    """Found when the model is first needed: the page is what it is without a compressor, and says why."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.models.tiny import folder, random_model

    path = random_model(folder(tmp_path) / "model")
    assert (path / gone).exists()
    (path / gone).unlink()
    done = page_in(db, f"{name}:{path}")
    if done.code == 0:
        assert done.document["num_tokens"] <= 150 and done.document["keys"]
        assert done.err.count("the text is used as it is") == 1
    else:
        assert done.code == 2 and "hint: " in done.err
    assert "Traceback (most" not in done.err


# -- nothing to do -----------------------------------------------------------------------------------------------


def test_an_empty_query(db: Path, memory_factory: Make) -> None:
    done = run_here("page-in", "", "--max-tokens", "150", "--db", db, "--json")
    assert done.document["num_tokens"] == 0
    memory = memory_factory(window_tokens=700)
    for n in range(20):
        memory.observe("user", f"{STORY} {n}")
    prompt = memory.render(query="")
    assert prompt.ledger.total <= memory.budget.max_tokens and memory.notices == []


@pytest.mark.parametrize("command", ["page-in", "context"])
@pytest.mark.parametrize("tokens", ["0", "-1", "x"])
def test_a_budget_of_nothing(command: str, tokens: str, db: Path) -> None:
    done = run_here(command, "What?", "--max-tokens", tokens, "--db", db)
    assert done.code == 2 and "--max-tokens" in done.err


def test_a_budget_of_nothing_in_code(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", STORY)
    with pytest.raises(InvalidInputError, match="at least 1"):
        memory.page_in("Where is Anna?", max_tokens=0)
    for tokens in range(1, 30):
        assert memory.page_in("Where is Anna?", max_tokens=tokens).num_tokens <= tokens
    assert memory.notices == []


@pytest.mark.parametrize("target", [0, -5])
@pytest.mark.parametrize("most", [None, 0, 100])
def test_a_target_of_nothing(target: int, most: int | None) -> None:
    request = CompressionRequest((Part(STORY),), target, approximate_counter(), "", most)
    assert ExtractiveCompressor().compress([request]) == [None]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200b", "\x00", "a", "?", "```", "{}"])
@pytest.mark.parametrize("query", ["", "?", "a", "\x00", " ", "the", "🎉", "x" * 5000])
def test_texts_and_queries_of_nothing(text: str, query: str) -> None:
    compressor, counter = ExtractiveCompressor(), approximate_counter()
    for target in (0, 1, 5):
        assert compressor.compress([CompressionRequest((Part(text),), target, counter, query)]) in ([None],)
    for forms in compressor.forms([Part(text), Part(STORY)], query, counter)[:1]:
        assert forms == []


# -- large -------------------------------------------------------------------------------------------------------

HEAP = "the quick figs of Anna were not so very ripe and "


@pytest.mark.parametrize("spaced", [True, False], ids=["words", "one word"])
def test_a_line_of_50k_tokens(spaced: bool, memory_factory: Make) -> None:
    text = (HEAP * 4600 if spaced else "x" * 250_000) + " heliotrope is the password."
    counter = word_counter() if spaced else approximate_counter()
    assert counter.count(text) >= 50_000
    compressor = ExtractiveCompressor()
    (found,) = compressor.compress([CompressionRequest((Part(text),), counter.count(text) * 2 // 3, counter)])
    if found is not None:
        told = shown(text, found.parts[0])
        assert found.num_tokens == counter.count(told) <= counter.count(text) * 2 // 3
        assert told.count("not") == text.count("not")
    memory = memory_factory(window_tokens=700)
    memory.observe("user", text, key="big")
    memory.observe("user", "Something short after it.")
    for n in range(12):
        memory.observe("user", f"{STORY} {n}")
    page = memory.page_in("What is the password?", max_tokens=200)
    assert page.num_tokens <= 200
    assert Agent(memory).send("What is the password?").ledger.total <= memory.budget.max_tokens
    stored = memory.message("big")
    assert stored is not None and stored.content == text and memory.notices == []


def test_many_requests_and_parts() -> None:
    counter: Any = approximate_counter()
    compressor = ExtractiveCompressor()
    parts = tuple(Part(f"{STORY} {n}", 1 / (n + 1)) for n in range(200))
    for target in (1, 50, 500):
        (found,) = compressor.compress([CompressionRequest(parts, target, counter, "Where is Anna?")])
        assert found is None or found.num_tokens <= target
