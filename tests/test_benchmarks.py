"""The benchmarks' own arithmetic, and each script once on tiny data: no downloads, no data from elsewhere."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.hashing_embedder import HashingEmbedder
from benchmarks import archive_scale, measures, plots, retrieval_locomo, retrieval_longmemeval, scale_arms, turn_cost
from benchmarks.baselines import BM25, DENSE, HYBRID, HYBRID_WINDOW, LAST, Baselines, FullText, Turn
from benchmarks.raw_faiss import RawIndex
from benchmarks.scale_data import DIM, StubEmbedder, Texts
from benchmarks.stores import KeptEmbedder, Results, ingested

WORDS = ("harbour", "lantern", "velvet", "copper", "meadow", "thunder", "ribbon", "walnut", "glacier", "saffron")


# -- measures --------------------------------------------------------------------------------------------------------


@given(st.permutations("abcdef"), st.sets(st.sampled_from("abcdxy"), min_size=1, max_size=4))
def test_measures_of_a_ranking(keys: list[str], evidence: set[str]) -> None:
    found = measures.ranked(keys, sorted(evidence), (1, 3))
    for k in (1, 3):
        assert found[f"all@{k}"] == float(evidence <= set(keys[:k]))
        assert found[f"any@{k}"] == float(bool(evidence & set(keys[:k])))
    places = [n for n, key in enumerate(keys, 1) if key in evidence]
    assert found["MRR"] == (1 / places[0] if places else 0.0)
    gain = sum(1 / np.log2(n + 1) for n in places)
    assert found["NDCG@10"] == pytest.approx(gain / sum(1 / np.log2(n + 1) for n in range(1, len(evidence) + 1)))


def test_a_key_that_comes_twice_counts_where_it_comes_first() -> None:
    assert measures.ranked(["a", "b", "a"], ["a"], (1,))["all@1"] == 1.0


def test_intervals() -> None:
    boot = measures.Bootstrap(200, draws=500, seed=3)
    values = [float(n % 4 == 0) for n in range(200)]
    mean = boot.mean(values)
    assert mean.mean == 25.0 and mean.count == 200
    # About 1.96 standard errors (3.06 each) to both sides.
    assert 17 < mean.low < 21 and 29 < mean.high < 33
    same = boot.mean([1.0] * 200)
    assert (same.low, same.mean, same.high) == pytest.approx((100.0, 100.0, 100.0))
    assert boot.mean(values) == measures.Bootstrap(200, draws=500, seed=3).mean(values)


def test_differences_are_paired() -> None:
    rng = random.Random(1)
    scores = []
    for _ in range(100):
        hard = float(rng.random() < 0.5)
        scores.append({"ours": {"m": hard, "only": 1.0}, "same": {"m": hard}, "worse": {"m": 0.0}})
    found = measures.differences(scores, "ours", draws=200, seed=0)
    assert found["same"]["m"] == measures.Mean(0.0, 0.0, 0.0, 100)
    assert set(found["same"]) == {"m"}
    alone = measures.summary(scores, draws=200, seed=0)["ours"]
    assert found["worse"]["m"] == alone["m"] and found["worse"]["m"].low > 0


# -- baselines -------------------------------------------------------------------------------------------------------

SAID = (
    ("1", "Anna", "I bought a copper kettle in the harbour."),
    ("1", "Tom", "Where did you find it?"),
    ("1", "Anna", "Near the old lighthouse, Tom."),
    ("2", "Tom", "My sister paints meadows."),
    ("2", "Anna", "Anna is my name, and I like Anna's meadows."),
)
TURNS = [
    Turn.of({"id": f"k{n}", "role": "user", "name": name, "content": text, "session": session,
             "at": f"2023-05-0{session}T10:00:0{n}+00:00"})
    for n, (session, name, text) in enumerate(SAID)
]  # fmt: skip


@pytest.fixture
def baselines() -> Any:
    made = Baselines(TURNS, HashingEmbedder())
    yield made
    made.close()


def test_the_baselines_rank_as_they_say(baselines: Baselines) -> None:
    query = "Which meadows does Anna like?"
    assert baselines.keys(LAST, query) == ["k4", "k3", "k2", "k1", "k0"]
    embedder = HashingEmbedder()
    rows = embedder.embed([f"{t.name}: {t.content}" for t in TURNS], input_type="document")
    cosines = rows @ embedder.embed([query], input_type="query")[0]
    assert baselines.keys(DENSE, query) == [f"k{n}" for n in np.argsort(-cosines, kind="stable")]
    words = baselines.systems[BM25](query)
    assert [n for n in range(5) if words[n] > 0] == [3, 4]
    assert set(baselines.keys(BM25, query)) == {"k3", "k4"}
    z = [(x - x.mean()) / x.std() for x in (cosines.astype(np.float64), words)]
    assert baselines.systems[HYBRID](query) == pytest.approx(0.5 * z[0] + 0.5 * z[1], abs=1e-6)


def test_a_window_stays_in_its_session_and_names_leave_the_embedded_question(baselines: Baselines) -> None:
    asked: list[str] = []

    class Spy:
        def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
            asked.extend(texts)
            return HashingEmbedder().embed(texts, input_type=input_type)

    baselines._embedder = Spy()  # type: ignore[assignment]
    baselines.ranking(HYBRID_WINDOW, "Where did Anna find Tom's kettle?")
    assert asked == ["Where did find kettle?"]
    found = baselines._windows.scores("kettle")
    assert [n for n in range(5) if found[n] > 0] == [0, 1]
    assert not baselines._windows.scores("lighthouse")[3]
    both = baselines.systems[HYBRID_WINDOW]("copper kettle"), baselines.systems[HYBRID]("copper kettle")
    assert both[0][1] > both[1][1]  # the turn after the kettle's has it in its window alone


def test_words_that_say_nothing_are_asked_when_there_are_no_others() -> None:
    table = FullText(["who are you", "copper kettle"])
    assert list(table.scores("who are you?") > 0) == [True, False]
    assert not table.scores("?!").any() and not table.scores('"').any()
    table.close()


def test_pages_keep_to_the_budget_and_the_order(baselines: Baselines) -> None:
    counter = HashingEmbedder().counter
    small, large = baselines.page_keys(LAST, "anything", (30, 1000), counter)
    assert large and set(small) < set(large) == {t.key for t in TURNS}
    assert "k4" in small


# -- what is kept between runs ---------------------------------------------------------------------------------------


class _Counting(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
        self.seen += texts
        return super().embed(texts, input_type=input_type)


def test_a_text_is_embedded_once(tmp_path: Path) -> None:
    inner = _Counting()
    for _ in range(2):
        kept = KeptEmbedder(inner, tmp_path / "v.sqlite")
        rows = kept.embed(["a b", "c", "a b"], input_type="document")
        assert np.array_equal(rows, HashingEmbedder().embed(["a b", "c", "a b"], input_type="document"))
        assert kept.dim == inner.dim and kept.model_id == inner.model_id
        assert kept.embed([], input_type="query").shape == (0, inner.dim)
        kept.close()
    assert inner.seen == ["a b", "c"]


def test_a_store_is_used_again_under_the_same_mark_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedder = HashingEmbedder()
    line = {"id": "a", "role": "user", "content": "one", "at": "2023-05-08T12:00:00+00:00"}
    with ingested(tmp_path, "s", [line], embedder, "mark") as memory:
        memory.observe("user", "two")
    with ingested(tmp_path, "s", [line], embedder, "mark") as memory:
        assert memory.stats()["messages"] == 2
    with ingested(tmp_path, "s", [line], embedder, "other") as memory:
        assert memory.stats()["messages"] == 1
    with ingested(tmp_path, "bad", [{**line, "id": "b", "content": ""}, line], embedder, "mark") as memory:
        assert memory.stats()["messages"] == 1
    assert "bad: left out" in capsys.readouterr().err, "said, and the rest is stored"
    with pytest.raises(SystemExit, match="worse"):
        ingested(tmp_path, "worse", [line, {**line, "content": "two"}], embedder, "mark")


def test_results_go_on_and_stale_ones_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "out" / "r.jsonl"
    Results(path, "mark", fresh=False).add({"id": "q1", "scores": {}})
    with path.open("a") as file:
        file.write('{"fingerprint": "mark", "id": "q2", "sco')
    assert set(Results(path, "mark", fresh=False).found) == {"q1"}
    assert not Results(path, "other", fresh=False).found
    assert not Results(path, "mark", fresh=True).found and not path.exists()


# -- the scripts -----------------------------------------------------------------------------------------------------


def _locomo(folder: Path) -> None:
    folder.mkdir()
    rng = random.Random(0)
    messages, questions = [], []
    for n in range(24):
        said = " ".join(rng.sample(WORDS, 3))
        messages.append({"id": f"D1:{n}", "session": str(n // 6), "role": "user", "name": ("Anna", "Tom")[n % 2],
                         "content": f"I saw a {said}, number {n}.", "at": f"2023-05-08T12:00:{n:02d}"})  # fmt: skip
    for n in range(0, 24, 4):
        questions.append({"id": f"q{n}", "query": f"Who saw number {n}?", "at": "2023-06-01T00:00:00",
                          "category": (1, 2, 5)[n // 4 % 3], "evidence": [f"D1:{n}"],
                          "audit_error": "WRONG" if n == 4 else ""})  # fmt: skip
    questions.append({"id": "none", "query": "?", "category": 3, "evidence": []})
    for name, rows in (("messages", messages), ("questions", questions)):
        (folder / f"conv-1.{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def test_locomo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    _locomo(data)
    arguments = [
        "--data", str(data), "--embedder", "hash", "--out", str(out), "--stores", str(tmp_path / "stores"),
        "--draws", "50",
    ]  # fmt: skip
    retrieval_locomo.main([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    means = document["means"]["all"]
    assert set(means) == set(retrieval_locomo.SYSTEMS)
    assert means["agentmem"]["page-in 4096"] == {"mean": 100.0, "low": 100.0, "high": 100.0, "n": 4}
    assert means["last messages"]["all@20"]["mean"] == 75.0  # of turns 0, 4, 12 and 16 of 24
    assert document["means"]["audited out"]["dense"]["MRR"]["n"] == 3
    assert document["means"]["category 5 (adversarial)"]["BM25"]["all@5"]["n"] == 2
    assert set(document["differences"]["all"]) == set(retrieval_locomo.SYSTEMS[1:])
    assert {v["goal"] for v in document["verdicts"]} >= {"all@10 at least 79", "not below hybrid"}
    assert (out / "locomo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads((out / "locomo.results.json").read_text())["means"] == document["means"]

    def asked(*_: object) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(retrieval_locomo, "ask", asked)
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    retrieval_locomo.main(arguments)
    said = capsys.readouterr()
    assert "pip install 'agentmem[bench]'" in said.err
    assert "NOT met" in said.out or "met" in said.out
    assert "seed 0" in said.out and "agentmem minus each" in said.out
    with pytest.raises(AssertionError, match="asked again"):
        retrieval_locomo.main([*arguments, "--fresh"])
    with pytest.raises(SystemExit, match=r"no CONV\.messages"):
        retrieval_locomo.main(["--data", str(tmp_path / "stores"), "--embedder", "hash"])


def _longmemeval(folder: Path) -> None:
    folder.mkdir()
    sessions = {
        f"s{n}": [{"role": "user", "content": f"I like the {WORDS[n]} best."},
                  {"role": "assistant", "content": f"A {WORDS[n]} it is, with {WORDS[n - 1]}."}]
        for n in range(6)
    }  # fmt: skip
    listed = [{"session": f"id-{k}", "key": k, "at": f"2023-05-1{n}T08:00:00"} for n, k in enumerate(sessions)]
    rows = []
    for n, (name, turns) in enumerate((("q1", [[2, 0]]), ("q2", []), ("q3_abs", [[1, 0]]), ("q4", [[4, 0], [4, 1]]))):
        rows.append({"id": name, "type": ("a", "b")[n % 2], "query": f"Which {WORDS[2 if n == 0 else 4]} do I like?",
                     "at": "2023-06-01T00:00:00", "sessions": listed, "evidence_turns": turns,
                     "answer_sessions": [f"id-s{2 if n == 0 else 4}"]})  # fmt: skip
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with gzip.open(folder / "sessions.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"key": k, "turns": t}) + "\n" for k, t in sessions.items())


def test_longmemeval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    _longmemeval(data)
    retrieval_longmemeval.main(
        ["--data", str(data), "--embedder", "hash", "--out", str(out), "--draws", "50", "--json"]
    )
    means = json.loads(capsys.readouterr().out)["means"]
    assert set(means["all"]) == set(retrieval_longmemeval.SYSTEMS)
    # Of four questions one can't be answered, and one has its evidence by session alone.
    assert means["all"]["BM25"]["all@5"]["n"] == 2 and means["all"]["BM25"]["session all@5"]["n"] == 3
    assert means["all"]["BM25"]["all@5"]["mean"] == 100.0
    assert means["all"]["last messages"]["session all@5"]["mean"] == 100.0
    assert means["all"]["last messages"]["all@5"]["mean"] == 50.0
    assert (out / "longmemeval.png").read_bytes()[:4] == b"\x89PNG"
    retrieval_longmemeval.main(["--data", str(data), "--embedder", "hash", "--questions", "1", "--draws", "20"])
    assert "by type of question" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"sessions\.jsonl\.gz"):
        retrieval_longmemeval.main(["--data", str(out), "--embedder", "hash"])


def test_turn_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn_cost.main(["--sizes", "30", "60", "--turns", "3", "--warm", "1", "--folder", str(tmp_path), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [r["messages"] for r in rows] == [30, 60]
    assert all(r["processor ms"] > 0 and r["search ms (and vectors)"] > 0 for r in rows)
    assert list(tmp_path.iterdir()) == []


def test_archive_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(archive_scale, "BASE", 40)
    for module in (archive_scale, scale_arms):
        monkeypatch.setattr(module, "LINES", 100)
    monkeypatch.setattr(archive_scale, "opened", archive_scale.child)
    archive_scale.main([
        "--sizes", "250", "--queries", "6", "--inserts", "12", "--folder", str(tmp_path), "--json",
        "--out", str(tmp_path / "out.json"),
    ])  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    (found,) = document["measured"]
    for when in ("search", "after deletion"):
        assert found[when]["dense"]["recall"] == found[when]["raw dense"]["recall"] == 1.0
        assert found[when]["lexical"]["overlap"] == 1.0
    assert found["bulk"]["ours"]["processor"] > 0 and found["single"]["base"]["p50"] > 0
    assert document["pragmas"]["synchronous"] == 2 and "synchronous=FULL" in document["note"]
    assert len(document["tables"]["goals"]) == 6
    assert json.loads((tmp_path / "out.json").read_text()) == [found]
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


# -- passages at scale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clustered", "random"])
def test_stub_vectors(kind: str) -> None:
    texts = [t for batch in Texts(5).batches(300, 100) for t in batch]
    assert texts[:100] == next(iter(Texts(5).batches(100, 100))) and len(set(texts)) == 300
    assert all(12 <= len(t.split()) <= 28 for t in texts)
    rows = StubEmbedder(kind, 1).embed(texts, input_type="document")
    assert rows.shape == (300, DIM) and rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(rows[7], StubEmbedder(kind, 1).embed([texts[7]], input_type="query")[0])
    cosines = (rows @ rows.T)[np.triu_indices(300, 1)]
    # 300 passages in 1,000 clusters: some pairs share one.
    assert (cosines.max() > 0.4) == (kind == "clustered")


def test_a_question_repeats_words_that_carry_meaning() -> None:
    texts = Texts(5)
    text = next(iter(texts.batches(1, 100)))[0]
    asked = texts.question(text, 3).removeprefix("what about the ").split()
    assert asked and set(asked) <= set(text.split())
    assert texts.question(text, 3) == texts.question(text, 3)


class _Lists:
    """As much of an index of inverted lists as `RawIndex.like` asks about."""

    kind, dim = "ivf-sq8", 16

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def parts(self) -> Any:
        yield "head", json.dumps({"reach": [[5, 2], [50, 4]]}).encode()
        yield "lists", self._rows[:8].astype("<f4").tobytes()
        yield "ranges", np.array([[-1] * 16, [1] * 16], "<f4").tobytes()
        raise AssertionError("no more was asked for")


def test_the_raw_index_is_like_ours() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.arange(1, 401)
    ivf = RawIndex.like(_Lists(rows))
    flat = RawIndex(16, "faiss-flat")
    ivf.rows = lambda wanted: rows[wanted - 1]
    assert "8 lists" in ivf.describe()
    for index in (ivf, flat):
        index.add(ids, rows)
        index.remove([3, 4])
    query = rows[99]
    left = [i for i in np.argsort(-(rows @ query), kind="stable") + 1 if i not in (3, 4)]
    assert flat.search(query, 10) == left[:10]
    few, many = ivf.search(query, 5), ivf.search(query, 60)  # 60 is beyond its reach: all lists are read
    assert few[0] == many[0] == 100 and not {3, 4} & set(many)
    assert len(set(many) & set(left[:60])) >= 59
    with pytest.raises(SystemExit, match="knows no raw index"):
        RawIndex(16, "hnsw")


def test_labels_lie_apart() -> None:
    placed = plots._apart([50.0, 50.5, 90.0, 51.0], 4.0)
    assert sorted(range(4), key=placed.__getitem__) == [0, 1, 3, 2]
    heights = sorted(placed)
    assert all(b - a >= 4.0 - 1e-9 for a, b in pairwise(heights))
