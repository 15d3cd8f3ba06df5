"""LongLLMLingua: the laws, that it reads the query, and that without one it is LLMLingua."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Not imported here: it takes two seconds, and without --run-slow nothing needs it.
if find_spec("llmlingua") is None:
    pytest.skip("needs llmlingua", allow_module_level=True)
pytest.importorskip("torch")

from agentmem.compression import CompressionRequest
from agentmem.compressor_contract import ODD, STORY
from agentmem.compressors.llmlingua import LLMLinguaCompressor
from agentmem.compressors.longllmlingua import LongLLMLinguaCompressor
from agentmem.registry import make_compressor
from tests.compressors.laws import SENTENCES, GeneratedLaws, asked
from tests.compressors.llmlingua_contract import PackageContract
from tests.models.classifiers import bert
from tests.models.tiny import folder, random_model

if TYPE_CHECKING:
    from agentmem.compressors.llmlingua_package import CausalPackage

pytestmark = pytest.mark.slow  # models are loaded

QUERY = "Where does Anna live, and what does she eat?"
TEXTS = (STORY, "Ben likes the sea. " * 6, "We talked about the old days for a while. " * 4, *SENTENCES[-4:])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture(scope="module")
def made(path: Path) -> LongLLMLinguaCompressor:
    compressor = LongLLMLinguaCompressor(str(path))
    compressor.compress([request(QUERY)])
    return compressor


@pytest.fixture
def package(made: LongLLMLinguaCompressor) -> CausalPackage:
    assert made._package is not None
    return made._package


def request(query: str, share: float = 0.5, texts: tuple[str, ...] = TEXTS) -> CompressionRequest:
    return asked(*texts, share=share, query=query)


class TestLaws(GeneratedLaws):
    examples = 8

    @pytest.fixture
    def compressor(self, made: LongLLMLinguaCompressor) -> LongLLMLinguaCompressor:
        return made

    def long_words(self) -> int:
        return 1000  # two passes over each segment of 200 tokens: 50,000 words take minutes

    def requests(self) -> list[CompressionRequest]:
        return super().requests()[::5]


@pytest.mark.slow
class TestMore(TestLaws):
    examples = 80

    def requests(self) -> list[CompressionRequest]:
        return GeneratedLaws.requests(self)


def test_the_query_decides(made: LongLLMLinguaCompressor) -> None:
    found = made.compress([request(QUERY), request("What is the mail address of Anna?")])
    assert found[0] is not None and found[0] != found[1]


def test_without_a_query_it_is_llmlingua(made: LongLLMLinguaCompressor, path: Path) -> None:
    plain = LLMLinguaCompressor(str(path))
    for query in ("", " \n"):
        assert made.compress([request(query)]) == plain.compress([request(query)])


@pytest.mark.parametrize("goal", [60, 150])
def test_what_it_says_was_kept_is_what_the_package_gives(package: CausalPackage, goal: int) -> None:
    contexts = [t for t in TEXTS if t.isascii()] * 3
    package._used = list(range(len(contexts)))
    text = package.compress_prompt(
        contexts, question=QUERY, target_token=goal, iterative_size=100, rank_method="longllmlingua",
        condition_in_question="after_condition", condition_compare=True, dynamic_context_compression_ratio=0.3,
        concate_question=False,
    )["compressed_prompt"]  # fmt: skip
    masks = package._masks(contexts)
    assert 0 < len(package._used) < len(contexts)
    mine = ["".join(c for c, k in zip(contexts[n], masks[n], strict=True) if k) for n in package._used]
    assert "".join(mine).replace("\n", "") == text.replace("\n", "")


@pytest.mark.parametrize("prefix", [QUERY, "Où est Anna?\n", "漢字? 😀", "a", "What?  ", "\n"])
@pytest.mark.parametrize("text", ["\n\nso", "  and", "漢😀 字", "plain words here", ".", "\ufffd x" * 60])
def test_the_length_of_a_prefix(package: CausalPackage, prefix: str, text: str) -> None:
    """As the package finds it, where it finds one; and always so that what is behind it is the text's."""
    from agentmem.compressors.llmlingua_package import CausalPackage

    count = package.get_prefix_length(prefix + "\n\n", text)
    try:
        theirs = super(CausalPackage, package).get_prefix_length(prefix + "\n\n", text)
    except AssertionError:
        offsets = package.offsets(prefix + "\n\n" + text[:100])
        assert count == 1 or offsets[count - 1][1] <= len(prefix) + 2
    else:
        assert count == theirs


def test_a_long_question_is_cut(made: LongLLMLinguaCompressor, path: Path) -> None:
    small = LongLLMLinguaCompressor(f"{path}?window=96")
    found = small.compress([request(f"{STORY} {QUERY}", 0.5, (*TEXTS, *TEXTS))])[0]
    assert found is not None and found.num_tokens > 20
    assert made._package is not None
    short = small._question(request(f"{STORY} {QUERY}"), made._package)
    assert short.endswith("what does she eat?") and made._package.get_token_length(short, False) <= 25


def test_other_scripts(made: LongLLMLinguaCompressor) -> None:
    found = made.compress([request("安娜住在哪里？", 0.6, (*ODD, STORY, "\ud83d half a pair " * 9))])[0]
    assert found is not None


class TestPackage(PackageContract):
    kind = LongLLMLinguaCompressor
    options = ("?segment=100", "?spread=0.1")
    refused = (("?spread=2", "from 0.0 to 1.0"), ("?segment=1", "from 8"), ("?threshold=chunk", "known: "))
    wrong = "no causal language model"
    passes = 2  # with the question, and without it

    @pytest.fixture
    def compressor(self, made: LongLLMLinguaCompressor) -> LongLLMLinguaCompressor:
        return made

    @pytest.fixture
    def other(self, path: Path) -> Path:
        return bert(path.parent / "a")


def test_it_says_what_it_reads(path: Path) -> None:
    made = make_compressor(f"longllmlingua:{path}?spread=0.5")
    assert made is not None and made.question_aware and made.joint and "spread=0.5" in made.fingerprint
