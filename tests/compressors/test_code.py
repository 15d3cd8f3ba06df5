"""The code compressor: the laws (its own where code is cut), what it keeps for a question, with and without a model."""

from __future__ import annotations

import argparse
import ast
import io
import math
import tokenize
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.compression import Compressed, CompressionRequest, Part, Spans, fault, shown, shown_tokens
from agentmem.compressor_contract import CODE, JSON, STORY
from agentmem.compressors.code import CodeCompressor, _knapsack
from agentmem.compressors.code_pieces import pieces_of
from agentmem.compressors.code_ranking import ModelRanking, code_terms, spikes
from agentmem.compressors.self_information import SelfInformation
from agentmem.errors import ConfigError
from agentmem.protocols import Compressor
from agentmem.registry import make_compressor
from agentmem.tokens import approximate_counter
from tests.compressors.code_samples import PYTHON, SAMPLES
from tests.compressors.laws import GeneratedLaws
from tests.compressors.test_code_split import tokenises
from tests.models.tiny import folder, random_model

ARGPARSE = Path(argparse.__file__).read_text(encoding="utf-8")
MIXED = f"Here is the file, as you asked.\n\n```python\n{PYTHON}```\n\nPlease don't change `price`.\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture(scope="module")
def with_model(path: Path) -> CodeCompressor:
    return CodeCompressor(str(path))


def request(text: str, share: float, query: str = "") -> CompressionRequest:
    counter = approximate_counter()
    return CompressionRequest((Part(text),), int(share * counter.count(text)), counter, query)


def compressed(text: str, share: float, query: str = "", compressor: CodeCompressor | None = None) -> str:
    asked = request(text, share, query)
    found = (compressor or CodeCompressor()).compress([asked])[0]
    assert found is not None and fault(asked, found) == ""
    return shown(text, found.parts[0])


class _CodeLaws(GeneratedLaws):
    """Code is what this one may cut, at its own places; the prose around it stays."""

    def requests(self) -> list[CompressionRequest]:
        texts = [MIXED, *(text for text, _, _ in SAMPLES.values())]
        more = [self.request(t, share, q) for t in texts for share in (0.2, 0.5, 0.8) for q in ("price", "")]
        return [*super().requests(), *more]

    def law_result(self, request: CompressionRequest, found: Compressed | None) -> None:
        """As the contract has it; its rule for words is one for lines here, whose white space is kept too."""
        if found is None:
            return
        assert fault(request, found) == "", fault(request, found)
        assert found.num_tokens == shown_tokens(request.parts, found.parts, request.counter) <= request.target_tokens
        assert 0.0 <= found.worth <= 1.0
        self.law_protected(request.parts, found.parts)

    def law_protected(self, parts: Sequence[Part], kept: Sequence[Spans]) -> None:
        """Kept lines are whole; of a function of which anything is kept the signature is; prose is there."""
        found = pieces_of(parts)
        there = {
            n
            for n, (s, e) in enumerate(found.spans)
            if any(a <= s and e <= b for a, b in kept[found.owners[n]]) and e > s
        }
        begun = {
            n
            for n, (s, e) in enumerate(found.spans)
            if any(s < b and a < e for a, b in kept[found.owners[n]]) and e > s
        }
        assert begun == there, "a line is cut"
        out = {found.owners[n] for n in found.fixed if n not in there}
        assert all(parts[n].unit and not kept[n] for n in out), "prose is left out"
        for section in found.sections:
            if there & set(section.lines):
                needed = {n for n in (*section.head, *section.needs) if found.spans[n][1] > found.spans[n][0]}
                assert needed <= there, f"the signature of {section.name} is left out"
            for block in section.blocks:
                if there & set(block.lines):
                    assert set(block.lines) <= there, "a block is cut"

    def test_it_compresses(self, compressor: Compressor) -> None:
        found = compressor.compress([self.request(PYTHON, 0.7), self.request(STORY, 0.7)])
        assert found[0] is not None and found[1] is None


class TestLaws(_CodeLaws):
    @pytest.fixture
    def compressor(self) -> CodeCompressor:
        return CodeCompressor()


class TestLawsWithAModel(_CodeLaws):
    examples = 15

    @pytest.fixture
    def compressor(self, with_model: CodeCompressor) -> CodeCompressor:
        return with_model

    def requests(self) -> list[CompressionRequest]:
        return super().requests()[-30::7]

    def long_words(self) -> int:
        return 5000


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("How are the arguments of a file read, those that begin with a prefix?", "_read_args_from_files"),
        ("Where does it print the usage and exit with an error message?", "error"),
        ("How do I add_subparsers to a parser?", "add_subparsers"),
        ("how is a string value converted to its type", "_get_value"),
    ],
)
def test_the_function_that_is_asked_for_is_there(query: str, name: str) -> None:
    text = compressed(ARGPARSE, 0.2, query)
    assert f"def {name}(" in text
    assert tokenises(text)
    lines = set(ARGPARSE.split("\n"))
    assert all(line in lines for line in text.split("\n"))


def test_what_is_asked_for_is_whole_where_there_is_room() -> None:
    wanted = ast.get_source_segment(
        ARGPARSE, next(n for n in ast.walk(ast.parse(ARGPARSE)) if getattr(n, "name", "") == "_read_args_from_files")
    )
    assert wanted is not None
    assert wanted in compressed(ARGPARSE, 0.5, "_read_args_from_files")


def test_without_a_question_signatures_come_first() -> None:
    text = compressed(ARGPARSE, 0.25)
    heads = [s for s in pieces_of((Part(ARGPARSE),)).sections if s.kind in ("function", "class")]
    lines = ARGPARSE.split("\n")
    assert all(lines[s.head[-1]] in text for s in heads)
    assert tokenises(text)


def test_returns_stay_with_what_is_kept_of_a_function() -> None:
    body = "".join(f"    step_{n} = convert(step_{n - 1}, {n})\n    store(step_{n})\n\n" for n in range(1, 30))
    other = "def other():\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n"
    source = f"def convert_all(step_0):\n{body}    return Result(step_29)\n\n\n{other}"
    text = compressed(source, 0.4, "convert_all the steps with step_7")
    assert text.startswith("def convert_all(step_0):") and "    return Result(step_29)" in text
    assert "step_7 =" in text and text.count("convert(") < 29


@pytest.mark.parametrize("name", SAMPLES)
def test_every_language_is_cut_between_statements(name: str) -> None:
    source, functions, _ = SAMPLES[name]
    for share in (0.3, 0.6, 0.9):
        text = compressed(source, share, functions[0])
        lines = [line for line in text.split("\n") if line]
        rest = iter(source.split("\n"))
        assert all(line in rest for line in lines), "not lines of the source, in its order"
    assert functions[0] in compressed(source, 0.7, f"what does {functions[0]} do")


def test_code_in_a_message_is_cut_and_the_message_is_not() -> None:
    text = compressed(MIXED, 0.5, "report the items")
    assert text.startswith("Here is the file, as you asked.\n\n```python\n") and "\n```\n" in text
    assert text.endswith("Please don't change `price`.")
    assert "def report(items):" in text and len(text) < len(MIXED)


def test_a_fence_goes_whole_when_nothing_in_it_fits() -> None:
    found = CodeCompressor().compress([request(CODE, 0.6)])[0]
    assert found is not None
    text = shown(CODE, found.parts[0])
    assert "```" not in text and text.startswith("Try this") and text.endswith("how it went.")


def test_what_has_no_code_is_left_alone() -> None:
    for text in (STORY, JSON, "x = 1"):
        assert CodeCompressor().compress([request(text, 0.6)]) == [None]


def test_an_unknown_language_is_whole_or_out() -> None:
    inner = "move 1 to x\nadd 2 to x\n" * 6
    text = f"Before.\n```cobol\n{inner}```\nAfter."
    for share in (0.2, 0.5, 0.9):
        found = CodeCompressor().compress([request(text, share)])[0]
        assert found is None or shown(text, found.parts[0]) == "Before.\nAfter."


def test_json_is_whole_or_out() -> None:
    counter = approximate_counter()
    value = '{"name": "price", "values": [1, 2, 3, 4, 5, 6, 7, 8]}'
    parts = (Part(value), Part(PYTHON))
    total = sum(counter.count(p.text) for p in parts)
    for share in (0.1, 0.3, 0.6, 0.9):
        asked = CompressionRequest(parts, int(share * total), counter, "price")
        found = CodeCompressor().compress([asked])[0]
        assert found is None or found.parts[0] in ((), ((0, len(value)),))


def test_the_part_that_is_worth_more_is_kept() -> None:
    counter = approximate_counter()
    go, rust = SAMPLES["go"][0], SAMPLES["rust"][0]
    for worth in ((1.0, 0.1), (0.1, 1.0)):
        parts = (Part(go, worth[0]), Part(rust, worth[1]))
        asked = CompressionRequest(parts, counter.count(go), counter, "price of an item with tax")
        found = CodeCompressor().compress([asked])[0]
        assert found is not None
        sizes = [sum(e - s for s, e in spans) / len(p.text) for p, spans in zip(parts, found.parts, strict=True)]
        assert (sizes[0] > sizes[1]) == (worth[0] > worth[1])


# -- ranking ----------------------------------------------------------------------------------------------------------


def test_terms_of_identifiers() -> None:
    assert code_terms("readFile parse_args HTTPServer the x") == [
        "readfile", "parse_args", "httpserver", "read", "file", "pars", "arg", "http", "server", "x",
    ]  # fmt: skip


def test_spikes_are_local_maxima_over_a_threshold() -> None:
    assert spikes([1, 9, 1, 1, 2, 1]) == {1}
    assert spikes([1, 1, 1]) == set()
    assert spikes([5, 1]) == set()


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 9)), max_size=8), st.integers(0, 40))
def test_the_knapsack_is_exact(items: list[tuple[float, int]], room: int) -> None:
    values, costs = [v for v, _ in items], [c for _, c in items]
    picked = list(_knapsack(values, costs, room))
    assert sum(costs[n] for n in picked) <= room and len(set(picked)) == len(picked)
    best = max(
        sum(v for n, v in enumerate(values) if mask >> n & 1)
        for mask in range(1 << len(items))
        if sum(c for n, c in enumerate(costs) if mask >> n & 1) <= room
    )
    assert sum(values[n] for n in picked) >= best - 0.1


def test_the_models_ranking_is_the_drop_of_the_perplexity(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    network = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()

    def perplexity(before: str, text: str) -> float:
        first, said = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (before, text))
        with torch.no_grad():
            logits = network(torch.tensor([[tokenizer.eos_token_id, *first, *said]])).logits[0].double()
        nats = [
            float(torch.logsumexp(logits[len(first) + n], -1) - logits[len(first) + n, t]) for n, t in enumerate(said)
        ]
        return math.exp(sum(nats) / len(nats))

    query, texts = "Where is the price computed?", ["def price():\n    return 1", "x = 2"]
    ranking = ModelRanking(SelfInformation(str(path), name="code"))
    drops = [perplexity("", query) - perplexity(f"{t}\n\n", query) for t in texts]
    assert ranking._drops(query, texts) == pytest.approx(drops, rel=1e-3)
    assert ranking.blocks(query, texts) == pytest.approx([max(0.0, d) for d in drops], rel=1e-3)


def test_with_a_model_blocks_end_where_lines_surprise(path: Path, with_model: CodeCompressor) -> None:
    ranking = ModelRanking(SelfInformation(str(path), name="code"))
    body = "\n".join(f"    value_{n} = {n}" for n in range(30))
    found = ranking.ends([f"def f():\n{body}\n    return 1", "def g():\n    pass"])
    assert found is not None and len(found) == 2 and all(0 < n < 31 for n in found[0])
    text = compressed(ARGPARSE[: ARGPARSE.index("class HelpFormatter")] + PYTHON, 0.5, "report", with_model)
    assert tokenises(text)


# -- bad input --------------------------------------------------------------------------------------------------------


def test_specs(path: Path) -> None:
    plain = make_compressor("code")
    assert isinstance(plain, CodeCompressor) and plain.fingerprint == "code/1/"
    made = make_compressor(f"code:{path}?dtype=float32")
    assert isinstance(made, CodeCompressor) and made.fingerprint != CodeCompressor(str(path)).fingerprint
    with pytest.raises(ConfigError, match="known: device, dtype"):
        CodeCompressor(f"{path}?rate=2")
    with pytest.raises(ConfigError, match="is no folder"):
        CodeCompressor("/no/such/folder")


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0.05, 0.95),
    st.sampled_from(["", "add a group", "_Section"]),
)
def test_any_piece_of_a_source_keeps_the_laws(start: int, size: int, share: float, query: str) -> None:
    """Sources that begin and end anywhere, most of which do not parse."""
    start %= len(ARGPARSE)
    text = ARGPARSE[start : start + size % 6000]
    asked = request(text, share, query)
    found = CodeCompressor().compress([asked])[0]
    if found is None:
        return
    assert fault(asked, found) == ""
    _CodeLaws().law_protected(asked.parts, found.parts)
    try:
        ast.parse(text)
        list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):
        return
    assert tokenises(shown(text, found.parts[0]))
