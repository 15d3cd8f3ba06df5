"""The import order is one-way. Every import that runs counts, those inside functions too; those for types do not."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Each line may import from the lines above it, never from its own or from below (design, section 3).
ORDER = """
compression chat
types errors language terms crashpoints progress encoding
protocols devices soft_prompts config registry times spec_options tool_specs reports wire
reading_weights word_classes answer_types ranking_weights matching packing recovery ordering
cap_trials cap_axes cap_markup
ranking companion
parsing
actions cutting derived summary_nodes
tokens dates keys budget eviction drafts core_memory prompts asking filing_rules
compressing
queue paging filing core_lines spans questions
history
evidence context scripted summary
ledger
planning
answer_sentences indexing candidates reranking
phrases confidence polar quoting retrieval pager
reading archiving erasing ingesting inspecting
memory_reads
memory
tools citing prefix
summarising turn answering answer_cache
steps
agent
scheduling backend_contract
asynchronous pool contracts reranker_contract compressor_contract
soft_prompt_contract tokenizer_contract replay environment output screen
reflection
archive_jobs
archive_file
reflection_contract repl_reflect
testing
repl
cap_data cap_scores cap_intervals cap_journal cap_meter cap_baselines cap_table cap_page cap_picture cap_position
cap_asked cap_ground cap_judge cap_report
cap_ladder
cap_run
cli_options
commands_memory
commands_store commands_model commands_cap commands_reflect_runs
commands_reflect commands_jobs
cli
"""
# Within the package agentmem/reflection, which stands where ORDER names it.
REFLECTION = """
budget changes holding heat instructions
outcome shares
strategy
view material answers prefix_trie summary_tree subjects trajectories
batch_order requests resting
importance
rating insight_prompts lesson_prompts
profile_lines
profile_evidence
profile_drafts
profile_prompts
verbs states wording
reservations
statements
frames
values
endings
relations
nearby
comparing
extraction
strategies applying
questioning undoing
job
diff forecast watching histories
showing telling reviewing series orders
share_job
crew
workers dealt_histories
ray_workers
"""
LEVELS = {name: n for n, line in enumerate(ORDER.split("\n")) for name in line.split()}
INNER = {name: n for n, line in enumerate(REFLECTION.split("\n")) for name in line.split()}
OUTERMOST = 99
"""Of strategies: each imports what stands in REFLECTION, and no other strategy."""
DRIVERS = ("backends", "compressors", "store")
DRIVERS_MAY = {
    "types",
    "errors",
    "protocols",
    "config",
    "tokens",
    "parsing",
    "language",
    "terms",
    "times",
    "crashpoints",
    "encoding",
    "compression",
    "spec_options",
    "cutting",
    "devices",
    "packing",
    "soft_prompts",
}
# The extractive backend reads and files by the kernel's rules.
ALSO = {"backends/extractive": {"reading", "filing"}}


class _Imports(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: set[tuple[str, int]] = set()

    def visit_If(self, node: ast.If) -> None:
        test = ast.unparse(node.test)
        for child in (
            node.orelse if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else [node.test, *node.body, *node.orelse]
        ):
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {(a.name, node.lineno) for a in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        # `from agentmem import x` names a module, `from agentmem.x import Y` a thing in one.
        self.found |= {(f"{module}.{a.name}" if module == "agentmem" else module, node.lineno) for a in node.names}


@cache
def imports(path: Path) -> frozenset[tuple[str, int]]:
    visitor = _Imports()
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(visitor.found)


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).glob("*.py") if p.name != "__init__.py")


def of_agentmem(path: Path) -> list[tuple[str, int]]:
    return sorted((n.removeprefix("agentmem."), line) for n, line in imports(path) if n.startswith("agentmem."))


def test_every_module_has_its_place() -> None:
    present = {p.stem for p in sources("agentmem")}
    assert sorted(present - LEVELS.keys()) == [], "give the new module a place in ORDER"


def test_the_kernel_imports_downwards_only() -> None:
    wrong = []
    for path in sources("agentmem"):
        mine = path.stem
        for name, line in of_agentmem(path):
            top = name.split(".")[0]
            if top in DRIVERS:
                wrong.append(f"{mine}, line {line}: the kernel imports the driver {name}")
            elif top != "__version__":
                level, other = LEVELS.get(mine, -1), LEVELS.get(top, 99)
                if other >= level:
                    wrong.append(f"{mine} (level {level}), line {line}: {top} (level {other})")
    assert wrong == []


def test_reflection_imports_downwards_only() -> None:
    wrong = []
    for path in sources("agentmem/reflection"):
        mine = INNER.get(path.stem, OUTERMOST)
        for name, line in of_agentmem(path):
            top, _, inner = name.partition(".")
            if top != "reflection":
                if top != "__version__" and LEVELS.get(top, 99) >= LEVELS["reflection"]:
                    wrong.append(f"{path.stem}, line {line}: {name}")
            elif INNER.get(inner.partition(".")[0], OUTERMOST) >= mine:
                wrong.append(f"{path.stem}, line {line}: {name}")
    assert wrong == []


def test_drivers_import_the_low_layers_only() -> None:
    wrong = [
        f"{own}/{path.stem}, line {line}: {name}"
        for own in DRIVERS
        for path in sources(own)
        for name, line in of_agentmem(path)
        if name != own
        and not name.startswith(f"{own}.")
        and name.split(".")[0] not in DRIVERS_MAY | ALSO.get(f"{own}/{path.stem}", set())
    ]
    assert wrong == []


def graph() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for folder in ("agentmem", *DRIVERS):
        for path in sources(folder):
            mine = path.stem if folder == "agentmem" else f"{folder}.{path.stem}"
            found[mine] = {n for n, _ in of_agentmem(path)}
    return found


def test_there_is_no_cycle() -> None:
    edges = graph()
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_no_bare_import_of_a_driver_folder() -> None:
    for folder in ("agentmem", *DRIVERS):
        for path in sources(folder):
            bare = [f"{path.name}:{line} {n}" for n, line in imports(path) if n.split(".")[0] in DRIVERS]
            assert bare == [], "a bare import loads a second copy"


def test_the_walk_sees_what_it_should() -> None:
    visitor = _Imports()
    visitor.visit(
        ast.parse(
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import agentmem.memory\nelse:\n    import agentmem.types\n"
            "def f():\n    from agentmem.agent import Agent\n    from agentmem import tools\n"
        )
    )
    assert {n for n, _ in visitor.found} == {"typing", "agentmem.types", "agentmem.agent", "agentmem.tools"}
