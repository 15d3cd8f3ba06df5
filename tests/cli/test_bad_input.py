"""Limits and bad input: what each situation gives is a table in docs/errors.md, whose rows name these tests."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmem import Agent, Memory
from agentmem.errors import ConfigError, InvalidInputError, UnknownNameError
from agentmem.scripted import ScriptedBackend, tool_call
from tests.cli.conftest import NO_MODEL, Ran, message, write_lines

Cli = Callable[..., Ran]


def exported(cli: Cli, db: Path, agent: str = "default") -> list[dict[str, Any]]:
    done = cli("export", "-", "--db", db, "--agent", agent)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def messages(cli: Cli, db: Path, agent: str = "default") -> list[str]:
    return [r["content"] for r in exported(cli, db, agent) if r["type"] == "message"]


# -- large messages ----------------------------------------------------------------------------------------------


def test_a_message_longer_than_the_window(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory(window_tokens=512)
    text = " ".join(f"word{n} about the harbour" for n in range(2000)) + " and the password is heliotrope."
    reply = Agent(memory).send(text)
    assert reply.text
    stored = memory.message("m1")
    assert stored is not None and stored.content == text, "whole in recall"
    memory.observe("user", "Something short after it.")
    for query in ("What is the password?", "Something else"):
        prompt = memory.render(query=query)
        assert prompt.ledger.total <= memory.budget.max_tokens
    first = Agent(memory_factory("b.db", window_tokens=512))
    first.send(text)
    shown = first.memory.events("prompt")[0].payload
    assert shown["total"] <= first.memory.budget.max_tokens
    (cut,) = shown["plan"]["cuts"]
    assert cut[0] == 1 and cut[1] + cut[2] < len(text)
    hits = memory.search("password heliotrope", tier="recall")
    assert hits[0].id == "m1" and hits[0].text == text, "reachable"


def test_a_long_message_in_the_queue_is_shortened_and_marked(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory(window_tokens=2048)
    text = " ".join(f"word{n} about the harbour" for n in range(400))
    memory.observe("user", text, key="D1:1")
    prompt = memory.render(query="What about the harbour?", max_tokens=900)
    assert prompt.ledger.total <= 900
    joined = "\n".join(m.content for m in prompt.messages)
    assert text not in joined
    assert "characters left out; whole in recall as D1:1" in joined
    assert prompt.keys == () and prompt.shortened == ("D1:1",)


def test_a_tool_result_longer_than_the_window(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory(window_tokens=8192, page_size=100, history_share=0)
    for n in range(100):
        memory.observe("user", f"Harbour report {n}: " + "the water is calm and the ships are in. " * 12)
    backend = ScriptedBackend(
        [tool_call("conversation_search", query="harbour report", request_heartbeat=True), "Done."]
    )
    agent = Agent(memory, backend)
    memory.relieve()
    reply = agent.send("What do the harbour reports say?")
    assert reply.text == "Done."
    (result,) = [m for m in memory.records.recall.since(1) if m.role == "tool"]
    assert memory.shape.counter.count(result.content) > 8192, "whole in recall"
    assert len(json.loads(result.content)["results"]) == 100
    for request in backend.requests:
        assert backend.counter.count_prompt(request.messages, request.tools) <= memory.budget.max_tokens
    shown = backend.requests[1].messages[-1]
    assert shown.role == "tool" and "characters left out; whole in recall as" in shown.content
    assert memory.render(query="x").ledger.total <= memory.budget.max_tokens


@pytest.mark.parametrize("spaced", [True, False], ids=["words", "one-word"])
def test_a_line_of_a_megabyte(cli: Cli, tmp_path: Path, spaced: bool) -> None:
    db = tmp_path / "m.db"
    text = ("lorem ipsum dolor " * 60_000 if spaced else "x" * 1_000_000) + " heliotrope"
    file = write_lines(tmp_path / "h.jsonl", [{"role": "user", "content": text, "id": "big"}])
    assert cli("ingest", file, "--db", db, *NO_MODEL, "--json").document["stored"] == 1
    assert messages(cli, db) == [text]
    prompt = cli("context", "heliotrope", "--max-tokens", "400", "--db", db, "--json").document
    assert prompt["ledger"]["total"] <= 400
    assert "big" not in prompt["keys"]
    page = cli("page-in", "heliotrope", "--max-tokens", "200", "--db", db, "--json").document
    assert page["num_tokens"] <= 200 and page["keys"] == []
    assert cli("verify", "--db", db).code == 0


# -- text that is none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_message(cli: Cli, tmp_path: Path, memory_factory: Callable[..., Memory], text: str) -> None:
    memory = memory_factory()
    with pytest.raises(InvalidInputError, match="is empty"):
        memory.observe("user", text)
    with pytest.raises(InvalidInputError, match="is empty"):
        Agent(memory).send(text)
    assert memory.records.recall.count() == 0
    file = write_lines(tmp_path / "h.jsonl", [{"role": "user", "content": text}, {"role": "user", "content": "Hello."}])
    done = cli("ingest", file, "--db", tmp_path / "x.db", *NO_MODEL, "--json").document
    assert done["stored"] == 1
    assert done["malformed"][0]["line"] == 1 and "is empty" in done["malformed"][0]["reason"]
    asked = cli("ask", text, "--db", tmp_path / "x.db", *NO_MODEL)
    assert asked.code == 1 and "is empty" in asked.err
    searched = cli("search", text, "--db", tmp_path / "x.db")
    assert searched.code == 1 and "is empty" in searched.err


def test_a_lone_surrogate_in_the_sdk(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory()
    bad = "half a pair: \ud83d here"
    for call in (
        lambda: memory.observe("user", bad),
        lambda: memory.observe("user", "x", name=bad),
        lambda: memory.observe("user", "x", key=bad),
        lambda: memory.archive(bad),
        lambda: memory.core["human"].append(bad),
        lambda: Agent(memory).send(bad),
        lambda: memory.render(query=bad),
    ):
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            call()
    assert memory.records.recall.count() == 0
    assert memory.core["human"].value == ""


def test_a_lone_surrogate_in_a_search(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory()
    memory.observe("user", "The harbour is calm.")
    assert [h.id for h in memory.search("harbour \ud83d")] == ["m1"], "nothing is stored of a query: it is searched"


def test_a_lone_surrogate_and_bad_utf8_in_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    file.write_bytes(
        b'{"role": "user", "content": "good one"}\n'
        b'{"role": "user", "content": "escaped \\ud83d half"}\n'
        b'{"role": "user", "content": "bytes \xff\xfe that are no UTF-8"}\n'
        b'{"role": "user", "content": "escaped \\ud83d\\ude00 pair"}\n'
        b'{"role": "user", "content": "caf\xc3\xa9"}\n'
    )
    done = cli("ingest", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json").document
    assert [m["line"] for m in done["malformed"]] == [2, 3]
    assert all("surrogate" in m["reason"] for m in done["malformed"])
    assert messages(cli, tmp_path / "m.db") == ["good one", "escaped \U0001f600 pair", "café"]


def test_bad_utf8_on_standard_input_and_in_queries(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    done = cli("ingest", "-", "--db", db, *NO_MODEL, "--json", stdin=b'{"role":"user","content":"\xff"}\n').document
    assert [m["line"] for m in done["malformed"]] == [1]
    cli("ingest", "-", "--db", db, *NO_MODEL, stdin=b'{"role":"user","content":"harbour"}\n')
    for command in ("search", "page-in", "context"):
        asked = cli(command, "--queries", "-", "--db", db, "--json", stdin=b'{"query":"harbour \xff"}\n')
        assert asked.code == 1 and "Traceback" not in asked.err and "line 1" in asked.err, command
        assert asked.out == ""


def test_nul_is_kept(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    text = "before the nul\x00after it stands a zeppelin"
    file = write_lines(tmp_path / "h.jsonl", [{"role": "user", "content": text, "id": "n"}])
    assert cli("ingest", file, "--db", db, *NO_MODEL, "--json").document["stored"] == 1
    assert messages(cli, db) == [text]
    hits = cli("search", "zeppelin", "--db", db, "--json").document["hits"]
    assert hits[0]["text"] == text, "what stands behind it is found too"
    assert cli("context", "zeppelin", "--db", db, "--json").document["keys"] == ["n"]
    assert cli("verify", "--db", db).code == 0
    with pytest.raises(ConfigError):
        Memory(tmp_path / "o.db", agent="nul\x00name", embedder="hash")


# -- many lines, bad lines, the same lines -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_lines_with_ten_malformed(process: Cli, tmp_path: Path) -> None:
    bad = dict(zip(
        (1, 7, 999, 5000, 25_600, 25_601, 50_000, 77_777, 99_999, 100_000),
        ("{", "[]", "7", '{"role": "user"}', '{"content": "x"}', '{"role": "king", "content": "x"}',
         '{"role": "user", "content": 7}', '{"role": "user", "content": ""}',
         '{"role": "user", "content": "x", "at": "soon"}', "\u0000"),
        strict=True,
    ))  # fmt: skip
    rows = (
        bad.get(n) or {"id": f"k{n}", "role": "user", "content": f"Line {n} of the log."} for n in range(1, 100_001)
    )
    file = write_lines(tmp_path / "h.jsonl", list(rows))
    db = tmp_path / "m.db"
    args = ("ingest", file, "--db", db, "--embedder", "none", "--json")
    refused = process(*args[:2], "--strict", *args[2:])
    assert refused.code == 1 and "10 bad lines" in refused.err and "line 7" in refused.err
    assert process("stats", "--db", db, "--json").document["messages"] == 0
    done = process(*args).document
    assert (done["read"], done["stored"], done["skipped"]) == (100_000, 99_990, 0)
    assert [m["line"] for m in done["malformed"]] == sorted(bad)
    assert process("verify", "--db", db).code == 0
    hits = process("search", "Line 77778 of the log", "--db", db, "--embedder", "none", "--json").document["hits"]
    assert hits[0]["key"] == "k77778"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "no JSON"), ("nonsense", "no JSON"), ("[1]", "no JSON object"), ('"text"', "no JSON object"),
        ("null", "no JSON object"), ('{"content": "x"}', "role"), ('{"role": "user"}', "content"),
        ('{"role": "king", "content": "x"}', "role"), ('{"role": "user", "content": null}', "content"),
        ('{"role": "user", "content": 7}', "content"), ('{"role": "user", "content": ["x"]}', "content"),
        ('{"role": "user", "content": "x", "id": 7}', "id"), ('{"role": "user", "content": "x", "id": ""}', "id"),
        ('{"role": "user", "content": "x", "name": "a\\nb"}', "name"),
        ('{"role": "user", "content": "x", "at": 1683554160}', "at"),
        ('{"role": "user", "content": "x", "at": "soon"}', "at"),
        ('{"role": "user", "content": "x", "at": "2023-02-30"}', "at"),
        ('{"role": "user", "content": "x", "at": "99999-01-01"}', "at"),
        ('{"role": "user", "content": "x", "at": "0000-01-01"}', "at"),
        ('{"role": "user", "content": "' + "x" * 10 + '", "id": "' + "k" * 501 + '"}', "id"),
        ("[" * 100_000, "no JSON"),
    ],
    ids=lambda v: v[:40] if isinstance(v, str) else v,
)  # fmt: skip
def test_a_malformed_line_is_reported_and_the_rest_is_in(cli: Cli, tmp_path: Path, line: str, says: str) -> None:
    db = tmp_path / "m.db"
    good = [message("D1:1", "First.", "2023-05-08"), message("D1:2", "Last.", "2023-05-08T10:00:00Z")]
    file = write_lines(tmp_path / "h.jsonl", [good[0], line, good[1]])
    done = cli("ingest", file, "--db", db, *NO_MODEL, "--json").document
    assert (done["read"], done["stored"]) == (3, 2)
    (bad,) = done["malformed"]
    assert bad["line"] == 2
    assert says in bad["reason"]
    assert len(bad["reason"]) < 400
    human = cli("ingest", file, "--db", db, *NO_MODEL)
    assert human.code == 0 and "line 2" in human.err
    strict = cli("ingest", file, "--strict", "--db", tmp_path / "s.db", *NO_MODEL)
    assert strict.code == 1 and "line 2" in strict.err
    assert cli("stats", "--db", tmp_path / "s.db", "--json").document["messages"] == 0


def test_unknown_fields_of_a_line_are_ignored(cli: Cli, tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "h.jsonl", [{"role": "user", "content": "x", "img_url": ["u"], "id": None, "at": None}]
    )
    assert cli("ingest", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json").document["stored"] == 1


def test_duplicate_ids_in_a_file_and_across_files(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    one = write_lines(
        tmp_path / "1.jsonl",
        [
            {"id": "a", "role": "user", "content": "first"},
            {"id": "a", "role": "user", "content": "first"},
            {"id": "a", "role": "user", "content": "other"},
            {"id": "b", "role": "user", "content": "second"},
        ],
    )
    done = cli("ingest", one, "--db", db, *NO_MODEL, "--json").document
    assert (done["stored"], done["skipped"]) == (2, 1)
    assert [(c["line"], c["id"]) for c in done["conflicts"]] == [(3, "a")]
    two = write_lines(
        tmp_path / "2.jsonl",
        [
            {"id": "b", "role": "user", "content": "second"},
            {"id": "b", "role": "user", "content": "changed"},
            {"id": "c", "role": "user", "content": "third"},
        ],
    )
    done = cli("ingest", two, "--db", db, *NO_MODEL, "--json").document
    assert (done["stored"], done["skipped"]) == (1, 1)
    assert [(c["line"], c["id"]) for c in done["conflicts"]] == [(2, "b")]
    assert messages(cli, db) == ["first", "second", "third"]
    for file, line in ((one, "line 3"), (two, "'b'")):
        strict = cli("ingest", file, "--strict", "--db", db, *NO_MODEL)
        assert strict.code == 1 and line in strict.err
    assert cli("ingest", one, "--db", db, "--agent", "other", *NO_MODEL, "--json").document["stored"] == 2, (
        "ids are unique per agent"
    )


def test_duplicate_ids_in_the_sdk(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory()
    first = memory.observe("user", "first", key="a")
    assert memory.observe("user", "first", key="a") == first
    with pytest.raises(InvalidInputError, match="another message"):
        memory.observe("user", "other", key="a")
    assert memory.records.recall.count() == 1


# -- times -------------------------------------------------------------------------------------------------------


def test_times_without_a_zone_are_kept_as_given(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    future = (datetime.now(UTC) + timedelta(days=4000)).replace(microsecond=0)
    given = [
        "2023-05-08T13:56:00",
        "2023-05-08T13:56:00+02:00",
        "2023-05-08",
        future.isoformat(),
        "0001-01-01",
        "9999-12-31T23:59:59",
    ]
    rows = [{"role": "user", "content": f"harbour {n}", "id": str(n), "at": at} for n, at in enumerate(given)]
    assert (
        cli("ingest", write_lines(tmp_path / "h.jsonl", rows), "--db", db, *NO_MODEL, "--json").document["stored"] == 6
    )
    hits = {h["key"]: h["at"] for h in cli("search", "harbour", "--db", db, "--json").document["hits"]}
    assert [hits[str(n)] for n in range(6)] == [
        "2023-05-08T13:56:00", "2023-05-08T13:56:00+02:00", "2023-05-08T00:00:00", future.isoformat(),
        "0001-01-01T00:00:00", "9999-12-31T23:59:59",
    ]  # fmt: skip
    since = cli(
        "search", "harbour", "--since", "2023-05-08T12:00:00", "--until", "2023-05-08T23:00:00", "--db", db, "--json"
    )
    assert {h["key"] for h in since.document["hits"]} == {"0"}, "+02:00 is 11:56 UTC"
    prompt = cli("context", "What did I say about the harbour in 2023?", "--db", db, "--json")
    assert prompt.code == 0
    assert cli("ask", "When was the harbour mentioned?", "--no-store", "--db", db).code == 0
    assert cli("verify", "--db", db).code == 0


@pytest.mark.parametrize("at", ["soon", "2023-13-01", "12023-01-01", "2023-05-08T25:00", "1683554160", ""])
def test_unparsable_times_in_the_sdk(memory_factory: Callable[..., Memory], at: str) -> None:
    memory = memory_factory()
    for call in (
        lambda: memory.observe("user", "x", at=at),
        lambda: memory.archive("x", valid_from=at),
        lambda: memory.search("x", as_of=at),
        lambda: memory.render(query="x", at=at),
        lambda: memory.page_in("x", max_tokens=9, asked_at=at),
        lambda: Agent(memory).send("x", at=at),
    ):
        with pytest.raises(InvalidInputError, match="ISO 8601"):
            call()
    assert memory.records.recall.count() == 0


@pytest.mark.parametrize("at", ["0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31"])
def test_questions_asked_at_the_ends_of_time(cli: Cli, own_db: Path, tmp_path: Path, at: str) -> None:
    queries = [
        "Where did Anna move last week?",
        "What happened last month?",
        "What did I do yesterday?",
        "And next year?",
    ]
    file = write_lines(tmp_path / "q.jsonl", [{"query": q, "at": at} for q in queries])
    for command in (("search",), ("page-in",), ("context",), ("ask", "--no-store")):
        done = cli(*command, "--queries", file, "--db", own_db, "--agent", "tom", "--json")
        assert len(done.lines) == len(queries), command


# -- names that nothing answers to ---------------------------------------------------------------------------------


def test_unknown_backend(cli: Cli, own_db: Path) -> None:
    for command in (("ask", "x"), ("page-in", "x"), ("context", "x"), ("ingest", "-"), ("chat",), ("stats",)):
        done = cli(*command, "--backend", "nosuch", "--db", own_db, "--agent", "tom")
        assert done.code == 2, command
        assert "nosuch" in done.err and "extractive" in done.err and "openai" in done.err


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("openai", "openai:http://"), ("openai:", "openai:http://"), ("openai:localhost", "http"),
        ("extractive:x", "no argument"), ("no.such.module:Thing", "can't be imported"),
        ("agentmem.types:NoSuch", "can't be imported"), ("", "unknown backend"),
    ],
)  # fmt: skip
def test_a_backend_that_lacks_its_argument(cli: Cli, own_db: Path, spec: str, says: str) -> None:
    done = cli("ask", "x", "--backend", spec, "--db", own_db, "--agent", "tom")
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("spec", "says"), [("nosuch", "minilm"), ("st", "st:"), ("openai", "openai:http://"), ("hash:9:9", "no argument")]
)
def test_unknown_embedder(cli: Cli, tmp_path: Path, spec: str, says: str) -> None:
    done = cli("ingest", "-", "--embedder", spec, "--db", tmp_path / "m.db")
    assert done.code == 2
    assert says in done.err


def test_invalid_tier(cli: Cli, own_db: Path, memory_factory: Callable[..., Memory]) -> None:
    done = cli("search", "x", "--tier", "attic", "--db", own_db, "--agent", "tom")
    assert done.code == 2 and "recall" in done.err
    with pytest.raises(InvalidInputError, match="archival"):
        memory_factory().search("x", tier="attic")


def test_huge_top_k_gives_what_there_is(cli: Cli, own_db: Path) -> None:
    for top_k in ("1000000000", "9" * 30):
        hits = cli("search", "the weather", "--top-k", top_k, "--db", own_db, "--agent", "tom", "--json").document[
            "hits"
        ]
        assert len(hits) == 48
    no_hits = cli("search", "the weather", "--top-k", "-1", "--db", own_db, "--agent", "tom")
    assert no_hits.code == 2


def test_a_page_beyond_the_end(memory_factory: Callable[..., Memory]) -> None:
    from agentmem.tools import Toolbox

    memory = memory_factory()
    for n in range(7):
        memory.observe("user", f"harbour report {n}")
    for page in (2, 3, 10**9):
        call = tool_call("conversation_search", query="harbour", page=page).tool_calls[0]
        with memory.store.write():
            result = Toolbox(memory).run(call)
        shown = json.loads(result.text)
        assert not result.failed
        assert (shown["results"], shown["total"], shown["pages"], shown["page"]) == ([], 7, 2, page)
        assert shown["note"]


def test_budgets_of_one_token(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom", "--json")
    page = cli("page-in", "Anna", "--max-tokens", "1", *base).document
    assert (page["text"], page["num_tokens"], page["keys"], page["shortened"]) == ("", 0, [], [])
    context = cli("context", "Anna", "--max-tokens", "1", *base)
    assert context.code == 1 and "1 are available" in context.err and context.out == ""


@pytest.mark.parametrize(
    "args",
    [("--window", "127"), ("--window", "0"), ("--window", "-5"), ("--reserve", "4096"), ("--reserve", "1"),
     ("--window", "200", "--reserve", "180"), ("--window", "many")],
    ids=" ".join,
)  # fmt: skip
def test_windows_that_are_too_small(cli: Cli, tmp_path: Path, args: tuple[str, ...]) -> None:
    done = cli("ask", "x", *args, "--db", tmp_path / "m.db", *NO_MODEL)
    assert done.code == 2
    assert args[0].strip("-") in done.err
    assert not (tmp_path / "m.db").exists()


def test_the_smallest_window_works_or_says_what_it_needs(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    for n in range(12):
        done = cli(
            "ask", f"My hobby number {n} is sailing to island {n}.", "--window", "128", "--db", db, *NO_MODEL, "--json"
        )
        if done.code:
            assert done.code == 1 and "tokens" in done.err and "hint" in done.err
        else:
            assert done.document["ledger"]["total"] <= done.document["ledger"]["max_tokens"]
    assert len([m for m in messages(cli, db) if m.startswith("My hobby")]) == 12, "what was said is kept either way"


# -- missing packages ----------------------------------------------------------------------------------------------

HIDE = """
import importlib.abc, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

import importlib.util
found = importlib.util.find_spec

def find_spec(name, package=None):
    return None if name.partition(".")[0] in {names!r} else found(name, package)

importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Hide())
# What was imported before.
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] in {names!r}:
        del sys.modules[name]
    elif name.startswith("agentmem") and vars(module).get("find_spec") is found:
        module.find_spec = find_spec
"""


def without(*names: str) -> str:
    return HIDE.format(names=set(names))


def test_without_faiss_numpy_serves(process: Cli, tmp_path: Path, history: Path) -> None:
    base = ("--db", tmp_path / "m.db", "--json")
    assert process("ingest", history, *NO_MODEL, *base, before=without("faiss")).document["stored"] == 48
    hits = process("search", "Where did Anna move to?", "--explain", *base, before=without("faiss")).document["hits"]
    assert hits[0]["key"] == "D1:3" and "cosine" in hits[0]["parts"]
    assert process("stats", *base, before=without("faiss")).document["index"] == "numpy"
    with_faiss = process("search", "Where did Anna move to?", "--explain", *base).document["hits"]
    assert [h["key"] for h in with_faiss] == [h["key"] for h in hits]
    doctor = process("doctor", *base, before=without("faiss")).document
    (check,) = [c for c in doctor["checks"] if c["name"] == "faiss"]
    assert not check["ok"] and check["remedy"] == "pip install 'agentmem[cpu]'"


def test_without_an_embedder_search_is_lexical_and_says_so(process: Cli, tmp_path: Path, history: Path) -> None:
    hide = without("torch", "transformers", "sentence_transformers")
    base = ("--db", tmp_path / "m.db")
    done = process("ingest", history, *base, "--json", before=hide)
    assert done.document["stored"] == 48
    assert "search goes by words alone" in done.err and "pip install 'agentmem[cpu]'" in done.err
    found = process("search", "Where did Anna move to?", *base, "--json", before=hide)
    assert found.document["hits"][0]["key"] == "D1:3"
    assert "search goes by words alone" in found.err
    doctor = process("doctor", *base, "--json", before=hide).document
    assert (doctor["embedder"], doctor["search"]) == ("none", "lexical alone")


def test_a_missing_extra_prints_the_install_line(process: Cli, tmp_path: Path) -> None:
    base = ("--db", tmp_path / "m.db")
    lines = b'{"role": "user", "content": "harbour"}\n'
    torch = process("ingest", "-", "--embedder", "minilm", *base, stdin=lines, before=without("torch"))
    assert torch.code == 1 and "pip install 'agentmem[cpu]'" in torch.err
    assert "Traceback" not in torch.err
    hidden = without("sentence_transformers", "transformers")
    st = process("ingest", "-", "--embedder", "st:some/model", *base, stdin=lines, before=hidden)
    assert st.code == 1 and "pip install 'agentmem[cpu]'" in st.err
    httpx = process(
        "ask", "x", *NO_MODEL, "--backend", "openai:http://127.0.0.1:9/v1#m", *base, before=without("httpx")
    )
    assert httpx.code == 1 and "pip install 'agentmem[openai]'" in httpx.err
    assert "Traceback" not in httpx.err


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_database_of_a_newer_schema(cli: Cli, own_db: Path) -> None:
    from agentmem.store.schema import MIGRATIONS

    connection = sqlite3.connect(own_db)
    (table,) = [
        r[0]
        for r in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%migrations%'")
    ]
    with connection:
        connection.execute(
            f"INSERT INTO {table} (migration_set, name, applied_at) VALUES (?, 'm999_future', '2030-01-01')",
            (MIGRATIONS.name,),
        )
    connection.close()
    before = own_db.read_bytes()
    for command in (("search", "x"), ("ingest", "-"), ("stats",), ("verify",), ("ask", "x")):
        done = cli(*command, "--db", own_db, "--agent", "tom")
        assert done.code == 1, command
        assert "newer agentmem" in done.err and "m999_future" in done.err and "pip install --upgrade" in done.err
    assert own_db.read_bytes() == before, "the file was not touched"


WORDS = '''
"""Another embedder: counts letters."""
import numpy as np
from agentmem.tokens import approximate_counter


class Letters:
    model_id = "letters"
    max_tokens = 512
    dim = 26
    counter = approximate_counter()

    def embed(self, texts, *, input_type):
        rows = np.array([[1 + t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], np.float32).reshape(-1, 26)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
'''  # noqa: E501


def test_another_embedders_database_and_reembed(
    cli: Cli, own_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letters_embedder").mkdir()
    (tmp_path / "letters_embedder" / "__init__.py").touch()
    (tmp_path / "letters_embedder" / "one.py").write_text(WORDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = "letters_embedder.one:Letters"
    base = ("--db", own_db, "--agent", "tom")
    for command in (("search", "Anna"), ("ask", "Anna?"), ("page-in", "Anna"), ("ingest", "-")):
        done = cli(*command, "--embedder", spec, *base)
        assert done.code == 1, command
        assert f"agentmem reembed --embedder {spec}" in done.err, "it names the command"
        assert "hash" in done.err
    done = cli("reembed", "--embedder", spec, *base, "--json").document
    assert done["embedder"] == "letters" and done["agents"] == 1
    assert cli("verify", *base).code == 0
    hits = cli("search", "Where did Anna move to?", "--explain", *base, "--json").document["hits"]
    assert hits[0]["key"] == "D1:3", "the file opens with the new one without being told"
    assert "cosine" in hits[0]["parts"]
    stats = cli("stats", *base, "--json").document
    assert (stats["embedder"], stats["not_embedded"]) == ("letters", 0)
    refused = cli("search", "Anna", *NO_MODEL, *base)
    assert refused.code == 1 and "agentmem reembed --embedder hash" in refused.err


def test_a_folder_that_can_not_be_written(cli: Cli, tmp_path: Path) -> None:
    """Root may write anywhere, so these are places where nobody may: /proc, and below a file."""
    file = tmp_path / "a-file"
    file.touch()
    for db in (Path("/proc/agentmem.db"), file / "m.db", tmp_path / "no-folder" / "m.db", tmp_path):
        for command in (("ingest", "-"), ("ask", "x")):
            done = cli(*command, "--db", db, *NO_MODEL)
            assert done.code == 1, db
            assert str(db) in done.err and "hint" in done.err
            assert "Traceback" not in done.err and done.out == ""
    assert list(tmp_path.iterdir()) == [file]


def test_a_readonly_file(cli: Cli, own_db: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root ignores file modes")
    own_db.chmod(0o400)
    done = cli("ask", "x", "--db", own_db, "--agent", "tom")
    assert done.code == 1 and "writ" in done.err


@pytest.mark.parametrize(
    "content",
    [b"this is a text file, not a database\n" * 50, os.urandom(5000), b"SQLite format 3\x00" + b"\xff" * 5000],
)
def test_a_file_that_is_no_database(cli: Cli, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    for command in (
        ("search", "x"),
        ("ingest", "-"),
        ("stats",),
        ("ask", "x"),
        ("export", "-"),
        ("reembed", "--embedder", "hash"),
    ):
        done = cli(*command, "--db", file)
        assert done.code == 1, command
        assert "notes.txt" in done.err and "Traceback" not in done.err
        assert "hint" in done.err and done.out == ""
    assert file.read_bytes() == content, "it is left alone"


def test_another_programs_database_is_refused_or_left_intact(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "other.db"
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("INSERT INTO recipes VALUES ('soup')")
    connection.close()
    cli("stats", "--db", db)
    connection = sqlite3.connect(db)
    assert connection.execute("SELECT name FROM recipes").fetchall() == [("soup",)]
    connection.close()


def test_binary_garbage_as_a_history(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "garbage.bin"
    file.write_bytes(bytes(range(256)) * 40 + b"\n" + os.urandom(2000))
    done = cli("ingest", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json").document
    assert done["stored"] == 0 and len(done["malformed"]) == done["read"] > 0
    assert cli("import", file, "--db", tmp_path / "i.db", *NO_MODEL).code == 1
    queries = cli("search", "--queries", file, "--db", tmp_path / "m.db", "--json")
    assert queries.code == 1 and queries.out == "" and "Traceback" not in queries.err


def test_a_folder_or_nothing_given_as_a_file(cli: Cli, own_db: Path, tmp_path: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    before = own_db.read_bytes()
    for path, why in ((tmp_path, "directory"), (tmp_path / "none.jsonl", "No such file")):
        for command in (
            ("ingest", path),
            ("import", path),
            ("search", "--queries", path),
            ("ask", "--no-store", "--queries", path),
        ):
            done = cli(*command, *base)
            assert done.code == 1, command
            assert why in done.err and str(path)[-20:] in done.err
            assert "Traceback" not in done.err
    written = cli("export", tmp_path, *base)
    assert written.code == 1 and "can't be written" in written.err
    nowhere = cli("export", tmp_path / "no" / "x.jsonl", *base)
    assert nowhere.code == 1 and "can't be written" in nowhere.err
    assert own_db.read_bytes() == before
    assert [p for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_an_unreadable_history_makes_no_database(cli: Cli, tmp_path: Path) -> None:
    for command in ("ingest", "import"):
        assert cli(command, tmp_path / "none.jsonl", "--db", tmp_path / "m.db", *NO_MODEL).code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["header", "kind", "field", "json", "count", "twice"])
def test_an_archive_that_is_no_archive(cli: Cli, own_db: Path, tmp_path: Path, change: str) -> None:
    lines = cli("export", "-", "--db", own_db, "--agent", "tom").out.splitlines()
    if change == "header":
        lines[0] = lines[0].replace('"format": 1', '"format": 99')
    elif change == "kind":
        lines[5] = '{"type": "spell"}'
    elif change == "field":
        lines[5] = '{"type": "message", "id": 5}'
    elif change == "json":
        lines[5] = lines[5][:-5]
    elif change == "count":
        del lines[5]
    else:
        lines.insert(5, lines[5])
        lines[-1] = json.dumps({"type": "end", "lines": len(lines)})
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(lines) + "\n")
    done = cli("import", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json")
    assert done.code == 1 and done.out == ""
    assert "Traceback" not in done.err
    assert cli("stats", "--db", tmp_path / "m.db", *NO_MODEL, "--json").document["messages"] == 0
    assert cli("import", cli_export(cli, own_db, tmp_path), "--db", tmp_path / "m.db", *NO_MODEL).code == 0, (
        "a refused import leaves the way free for a good one"
    )


def cli_export(cli: Cli, db: Path, folder: Path) -> Path:
    good = folder / "good.jsonl"
    assert cli("export", good, "--db", db, "--agent", "tom").code == 0
    return good


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "line\nbreak", "bell\x07"])
def test_agent_names_that_are_none(cli: Cli, tmp_path: Path, name: str) -> None:
    done = cli("ingest", "-", "--db", tmp_path / "m.db", "--agent", name, *NO_MODEL, stdin=b"")
    assert done.code == 1 and "is no name" in done.err


def test_unknown_names_in_the_sdk_list_the_known(memory_factory: Callable[..., Memory], tmp_path: Path) -> None:
    memory = memory_factory(agent="tom")
    with pytest.raises(UnknownNameError, match=r"persona, human"):
        memory.core["nosuch"]
    with pytest.raises(UnknownNameError):
        memory.erase(key="nosuch")
    with pytest.raises(UnknownNameError):
        memory.supersede("p99", "x")
    with pytest.raises(UnknownNameError, match="tom"):
        Memory(tmp_path / "m.db", agent="nobody", create=False, embedder="hash")
    with pytest.raises(ConfigError, match="settings:"):
        memory_factory("s.db", nosuch=1)
