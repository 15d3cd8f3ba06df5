"""`benchmarks.compression` and `benchmarks.compression_cost` on tiny data: their arithmetic, and each script once."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmem.compressing import BREAK_EVEN_TOKENS
from agentmem.types import Hit, Page, PageItem, Tier
from benchmarks import compression, compression_cost, plots
from benchmarks.answer_tokens import Gold, said_in
from benchmarks.compressor_speed import speeds

WORDS = ("harbour", "lantern", "velvet", "copper", "meadow", "thunder", "ribbon", "walnut", "glacier", "saffron")
PLACES = ("Lisbon", "Porto", "Ghent", "Turin", "Bergen", "Malaga")


def _page(*items: PageItem) -> Page:
    return Page("\n".join(f"{i.hit.key} {i.text}" for i in items), 0, items)


def _item(key: str, text: str, *spans: tuple[int, int]) -> PageItem:
    hit = Hit(key, Tier.RECALL, text, 0.5, datetime(2023, 5, 1, tzinfo=UTC), key=key)
    return PageItem.short(hit, spans) if spans else PageItem(hit, 0, len(text))


def test_gold_holds_what_stands_in_the_turns() -> None:
    gold = Gold.of("The painted boats, and a sunset", {"a": "I was painting, and a boat came.", "b": "Hello there."})
    assert gold and not gold.complete, "nobody spoke of a sunset"
    assert gold.told == {"a": {"paint", "boat"}, "b": frozenset()}
    assert Gold.of("in my bedroom", {"a": "It hangs in my bedroom."}).told == {"a": {"bedroom"}}
    assert Gold.of("in my bedroom", {"a": "It hangs in my bedroom."}).every == {"a": {"in", "my", "bedroom"}}
    assert Gold.of("in my bedroom", {"a": "It hangs in my bedroom."}).complete
    assert not Gold.of("yes", {"a": "No."})


def test_what_a_page_keeps() -> None:
    text, other = "I painted a boat in the harbour.", "We saw a boat."
    gold = Gold.of("painted boat in Lisbon", {"a": text, "b": other})
    none = dict.fromkeys(("page", "turns", "page+", "turns+", "whole"), 0.0)
    assert gold.kept(_page(_item("a", text), _item("b", other))) == dict.fromkeys(none, 1.0)
    short = _item("a", text, (2, 9), (12, 16))
    assert short.text == "painted boat"
    assert gold.kept(_page(short, _item("b", other))) == {**none, "page": 1.0, "turns": 1.0}
    # The boat is in the page by another turn's words.
    lost = _item("a", text, (2, 9))
    assert gold.kept(_page(lost, _item("b", other))) == {**none, "page": 1.0}
    assert gold.kept(_page(_item("a", text))) == {**none, "page": 1.0, "page+": 1.0}, "b is another gold turn"
    assert gold.kept(_page()) == none


def test_an_answer_is_said_as_it_is() -> None:
    assert said_in("The Glass Menagerie", "We saw *The Glass Menagerie* there.")
    assert not said_in("Glass Menagerie", "The menagerie had a glass roof.")
    assert not said_in("", "anything") and not said_in("?!", "anything")


def _locomo(folder: Path) -> None:
    folder.mkdir()
    rng = random.Random(0)
    messages, questions = [], []
    for n in range(24):
        said = " ".join(rng.choices(WORDS, k=14))
        place = PLACES[n % len(PLACES)]
        messages.append({"id": f"D1:{n}", "session": str(n // 6), "role": "user", "name": ("Anna", "Tom")[n % 2],
                         "content": f"Well, you know, it was a bit of a day. I went to {place}{n} with the {said}. "
                                    "And that was that, so to say.", "at": f"2023-05-08T12:00:{n:02d}"})  # fmt: skip
    for n in range(0, 24, 4):
        questions.append({"id": f"q{n}", "query": f"Who went to {PLACES[n % len(PLACES)]}{n}?",
                          "at": "2023-06-01T00:00:00", "category": (1, 2, 5, 4)[n // 4 % 4],
                          "answer": f"{PLACES[n % len(PLACES)]}{n}", "evidence": [f"D1:{n}"]})  # fmt: skip
    questions.append({"id": "unsaid", "query": "?", "category": 1, "answer": "Zurich", "evidence": ["D1:1"]})
    for name, rows in (("messages", messages), ("questions", questions)):
        (folder / f"conv-1.{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def _longmemeval(folder: Path) -> None:
    folder.mkdir()
    sessions = {f"s{n}": [{"role": "user", "content": f"I like the {WORDS[n]} best. " * 4}] for n in range(6)}
    listed = [{"session": f"id-{k}", "key": k, "at": f"2023-05-1{n}T08:00:00"} for n, k in enumerate(sessions)]
    rows = [
        {"id": name, "type": "a", "query": "Which do I like?", "at": "2023-06-01T00:00:00", "sessions": listed,
         "evidence_turns": [[2, 0], [3, 0]], "answer_sessions": ["id-s2"], "answer": answer}
        for name, answer in (("q1", "the velvet"), ("q2", "silk"), ("q3_abs", "velvet"), ("q4", "velvet " * 20))
    ]  # fmt: skip
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with gzip.open(folder / "sessions.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"key": k, "turns": t}) + "\n" for k, t in sessions.items())


def test_which_questions_are_asked(tmp_path: Path) -> None:
    _locomo(tmp_path / "locomo")
    ((questions, messages),) = compression.locomo(tmp_path / "locomo")
    assert len(messages) == 24
    assert {q.id: q.groups[0] for q in questions} == {
        f"q{n}": "category 2 (dates)" if n // 4 % 4 == 1 else "categories 1, 3, 4"
        for n in range(0, 24, 4)
        if n // 4 % 4 != 2
    }
    _longmemeval(tmp_path / "longmemeval")
    ((questions, history),) = compression.longmemeval(tmp_path / "longmemeval", 1)
    assert [q.id for q in questions] == ["q1"] and len(history) == 6
    assert questions[0].gold.told == {"2:0": {"velvet"}}, "the other evidence turn does not say it"


def test_compression(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _locomo(tmp_path / "locomo")
    _longmemeval(tmp_path / "longmemeval")
    out = tmp_path / "out"
    arguments = [
        "--data", str(tmp_path / "locomo"), "--embedder", "hash", "--out", str(out), "--draws", "50",
        "--stores", str(tmp_path / "stores"),
    ]  # fmt: skip
    compression.main([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    means = document["means"]["LoCoMo, categories 1, 3, 4"]
    assert set(means) == {"none", "extractive"}
    assert means["none"]["page@2048"] == pytest.approx({"mean": 100.0, "low": 100.0, "high": 100.0, "n": 3})
    assert means["extractive"]["whole@256"]["mean"] <= means["none"]["whole@256"]["mean"]
    assert set(document["differences"]["LoCoMo, category 4"]) == {"extractive"}
    (none, ours) = document["tables"]["LoCoMo: pages of categories 1, 3, 4"]
    assert none["ratio@512"] == "1.000" and float(ours["ratio@512"]) < 0.9
    assert "(0.0 short)" in none["records@256"] and "(0.0 short)" not in ours["records@256"]
    assert len(document["verdicts"]) == 2
    assert (out / "compression.locomo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    asked = []
    monkeypatch.setattr(compression, "ask", lambda m, q: asked.append(q.id) or _nothing())  # type: ignore[func-returns-value]
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    compression.main([
        *arguments, "--compressors", "extractive", "extractive:words=false",
        "--longmemeval", str(tmp_path / "longmemeval"),
    ])  # fmt: skip
    assert asked.count("q1") == 3, "of a question of another set"
    assert len(asked) == 5 + 3, "what was measured is kept; the new compressor alone is asked"
    assert "NOT met" in (said := capsys.readouterr().out) and "LongMemEval: pages of all" in said
    with pytest.raises(SystemExit, match=r"no CONV\.messages"):
        compression.main(["--data", str(out), "--embedder", "hash"])


def _nothing() -> dict[str, float]:
    names = (*compression.MEASURES, *compression.NOTED, "tokens", "records", "short", "shown", "stored")
    return {f"{m}@{t}": 0.0 for m in names for t in compression.TOKENS}


def test_a_compressor_that_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        name, fingerprint, question_aware, joint = "broken", "broken/1", True, False

        def compress(self, requests: Any) -> Any:
            raise ValueError("no such thing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "make_compressor", lambda s: None if s == "none" else Broken())
        _locomo(tmp_path / "locomo")
        compression.main(["--data", str(tmp_path / "locomo"), "--embedder", "hash", "--draws", "20", "--json"])
    failed = json.loads(capsys.readouterr().out)["tables"]["compressors that failed"]
    assert [f["histories"] for f in failed] == [1] and "no such thing" in failed[0]["what"]


def test_lengths_gain_from_where_they_do() -> None:
    rows, gains_from = compression_cost.length_rows([(5, 4, 4, 6), (10, 9, 3, 6), (14, 9, 5, 6), (80, 40, 30, 6)])
    assert [r["record's tokens"] for r in rows] == ["4-7", "8-11", "12-15", "64+"]
    assert [r["net gain"] for r in rows] == ["-5.0 to -5.0", "-5.0 to +1.0", "-1.0 to +3.0", "+34.0 to +44.0"]
    assert gains_from == 8
    assert compression_cost.length_rows([(10, 9, 3, 6), (14, 14, 14, 6)])[1] is None


def test_costs_are_added_to_the_same_page() -> None:
    wall = {"embedding": [2.0, 2.0, 3.0], "none": [10.0, 5.0, 7.0], "extractive": [30.0, 9.0, 13.0]}
    found = {name: [[(ms, ms / 2 if name == "embedding" else ms) for ms in row]] for name, row in wall.items()}
    (row, work), ratios = compression_cost.cost_rows(found)
    assert (row["time"], row["added, first ms"], row["added, later ms"]) == ("wall", 20.0, 4.0)
    assert ratios == {"extractive": (2.0, 4.0)} and work["first / embedding"] == 20.0


def test_compression_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _locomo(tmp_path / "locomo")
    compression_cost.main([
        "--data", str(tmp_path / "locomo"), "--embedder", "hash", "--questions", "2", "--json",
        "--out", str(tmp_path / "out"),
    ])  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    fits, other = document["tables"]["how often extractive is asked"]
    assert fits["asked for the page"] == fits["asked for a prompt of 8,192"] == 0 < other["asked for the page"]
    assert document["verdicts"][1]["met"] and document["break_even_tokens"] == BREAK_EVEN_TOKENS
    assert any("by length" in title for title in document["tables"])
    assert json.loads((tmp_path / "out" / "compression_cost.results.json").read_text()) == document


def test_speeds_name_the_compressor() -> None:
    from agentmem.compression import Part
    from agentmem.tokens import approximate_counter

    parts = [Part("Well, you know, I went to Lisbon with a lantern. And that was all there was.")] * 9
    (row,) = speeds(["none", "extractive"], [("Where did I go?", parts)], approximate_counter())
    assert row["compressor"] == "extractive" and row["share left"] <= 0.5 and row["tokens a second"] > 0
    assert "package ms p50" not in row
