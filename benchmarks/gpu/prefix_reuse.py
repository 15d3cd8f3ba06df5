"""The prefix benchmark on a GPU: a model of Llama 3 8B's shape with dummy weights, the four layouts, one run.

Times to the first token do not depend on the weights, so none are needed: the configuration is written here (from the
published shape: 32 layers, hidden size 4,096, 32 heads, 8 of them for keys and values, 128,256 token ids), the weights
are random (`load_format="dummy"`), and the tokenizer is the tests' tiny one, so texts are more tokens than with
Llama's. Says what it could not run, and why. `python -m benchmarks.gpu.prefix_reuse --out FOLDER`
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentmem.errors import AgentMemError
from benchmarks import machine
from benchmarks.prefix_reuse import run, verdicts

SHAPE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


def missing() -> str:
    """Why nothing can run here; "" when it can."""
    if find_spec("vllm") is None:
        return "vLLM is not installed: pip install 'agentmem[vllm]'"
    import torch

    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU"
    free, total = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        return f"{free / 2**30:.0f} of {total / 2**30:.0f} GiB of GPU memory are free; 8 billion weights want 24"
    return ""


def shaped_model(path: Path) -> Path:
    """A folder with the configuration and a tokenizer, and no weights."""
    from tests.models.tiny import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(path)
    config = {**SHAPE, "bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    (path / "config.json").write_text(json.dumps(config))
    return path


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[8192, 32768], help="tokens (8192 32768)")
    parser.add_argument("--tails", type=int, nargs="+", default=[256, 1024, 2048], help="most paged in (256 1024 2048)")
    parser.add_argument("--turns", type=int, default=200, help="of the conversation (200)")
    parser.add_argument("--out", type=Path, help="a folder for gpu_prefix_reuse.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    not_run: list[dict[str, Any]] = []
    why = missing()
    with tempfile.TemporaryDirectory() as folder:
        path = shaped_model(Path(folder)) if not why else Path(folder)
        for window in args.windows:
            tails = [t for t in args.tails if t <= window // 4]
            if why:
                not_run.append({"window": window, "not run": why})
                continue
            try:
                rows += run(path, window, tails, args.turns, args.seed, load_format="dummy", dtype="bfloat16")
            except (
                AgentMemError,
                RuntimeError,
                OSError,
            ) as e:  # the other windows may run; the reason stands in the report
                not_run.append({"window": window, "not run": f"{type(e).__name__}: {e}"})
    tables = {"layouts": rows, "goals": verdicts(rows), "not run": not_run}
    today = datetime.now(UTC).date().isoformat()
    result = machine.show_tables(args, tables, note=f"{today}, {_gpu()}; seed {args.seed}, {args.turns} turns")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "gpu_prefix_reuse.json").write_text(json.dumps(result, indent=1))


def _gpu() -> str:
    if find_spec("torch") is None:
        return "no PyTorch"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    main()
