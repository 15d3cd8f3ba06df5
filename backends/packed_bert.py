"""A BERT encoder that computes texts of different lengths without padding, for use only: nothing is trained here.

The network is that of Devlin et al., arXiv 1810.04805, in the post-norm form of the published checkpoints. All tokens
of a batch stand below one another in one matrix, so that every linear layer is one product with no padding in it; only
attention goes text by text, equal lengths together. Weights are kept in the processor library's own layout (oneDNN):
with a dozen tokens a product is bound by reading weights, and rearranging them at each call is most of its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, dtype

_QKV = ("query", "key", "value")


class _Layer(NamedTuple):
    qkv: Linear
    attention_out: Linear
    attention_norm: tuple[Tensor, Tensor]
    up: Linear
    down: Linear
    norm: tuple[Tensor, Tensor]


class PackedBert:
    """Token states, averaged per text.

    `weights` are a checkpoint's tensors by name, in float32; `config` is its config.json (GELU, absolute positions).
    Products run in `dtype`; sums over layers, norms, softmax and the mean in float32 always. Thread-safe.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any], dtype: dtype, device: str) -> None:
        self._device = device
        self._width = int(config["hidden_size"])
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])

        def get(name: str) -> Tensor:
            return weights[name].to(device)

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return get(f"{name}.weight"), get(f"{name}.bias")

        def linear(*names: str) -> Linear:
            return Linear([get(f"{n}.weight") for n in names], [get(f"{n}.bias") for n in names], dtype)

        self._words = get("embeddings.word_embeddings.weight")
        # All tokens are of the first segment: its row is part of the position's.
        segment = get("embeddings.token_type_embeddings.weight")[0]
        self._positions = get("embeddings.position_embeddings.weight") + segment
        self._norm = norm("embeddings.LayerNorm")
        self._layers = []
        for n in range(int(config["num_hidden_layers"])):
            at = f"encoder.layer.{n}"
            layer = _Layer(
                linear(*(f"{at}.attention.self.{part}" for part in _QKV)),
                linear(f"{at}.attention.output.dense"),
                norm(f"{at}.attention.output.LayerNorm"),
                linear(f"{at}.intermediate.dense"),
                linear(f"{at}.output.dense"),
                norm(f"{at}.output.LayerNorm"),
            )
            self._layers.append(layer)

    def means(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The mean state of each text's tokens, float32 of shape (len(texts), width).

        `texts` are token ids with the special ones, none empty; equal lengths should stand together.
        """
        import torch
        from torch.nn import functional as F

        runs = [(sum(1 for _ in same), length) for length, same in groupby(len(t) for t in texts)]
        with torch.inference_mode():
            ids = torch.tensor([token for t in texts for token in t], device=self._device)
            x = F.embedding(ids, self._words) + self._position_rows(runs)
            x = F.layer_norm(x, (self._width,), *self._norm, self._eps)
            for layer in self._layers:
                attended = layer.attention_out(self._attend(layer.qkv(x), runs))
                x = F.layer_norm(x + attended, (self._width,), *layer.attention_norm, self._eps)
                x = F.layer_norm(x + layer.down(layer.up(x, gelu=True)), (self._width,), *layer.norm, self._eps)
            parts = torch.split_with_sizes(x, [count * length for count, length in runs])
            means = [p.view(count, length, -1).mean(1) for p, (count, length) in zip(parts, runs, strict=True)]
            return torch.cat(means)

    def _position_rows(self, runs: Sequence[tuple[int, int]]) -> Tensor:
        import torch

        return torch.cat([self._positions[:length].repeat(count, 1) for count, length in runs])

    def _attend(self, qkv: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Softmax attention inside each text. In float32: on processors as quick as in bfloat16, and exact."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        done = []
        parts = torch.split_with_sizes(qkv.float(), [count * length for count, length in runs])
        for part, (count, length) in zip(parts, runs, strict=True):
            q, k, v = part.view(count, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            done.append(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count * length, self._width))
        return done[0] if len(done) == 1 else torch.cat(done)


class Linear:
    """x @ weight.T + bias, several of them side by side as one, in `dtype`; GELU on the way out if asked for."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], dtype: dtype) -> None:
        import torch

        with torch.inference_mode():
            self._weight = torch.cat(list(weights)).to(dtype).contiguous()
            self._bias = torch.cat(list(biases)).to(dtype)
            self._packed = packed(self._weight)
            if self._packed is not None:
                # One copy is enough; what is asked of it later is its type.
                self._weight = self._weight[:0]

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Rows of shape (n, in) to rows of shape (n, out)."""
        import torch
        from torch.nn import functional as F

        x = x.to(self._weight.dtype)
        if self._packed is not None:
            attribute, algorithm = ("gelu", "none") if gelu else ("none", "")
            product: Any = torch.ops.mkldnn._linear_pointwise
            result: Tensor = product(x, self._packed, self._bias, attribute, [], algorithm)
            return result
        x = F.linear(x, self._weight, self._bias)
        return F.gelu(x) if gelu else x


def packed(weight: Tensor) -> Tensor | None:
    """The weight in oneDNN's own layout; None where this build of torch, or the device, has none.

    The operators are those that torch's own compiler emits for a linear layer. They are tried here, once a layer:
    without them the same product is computed by the public function, only slower.
    """
    import torch

    if weight.device.type != "cpu":
        return None
    try:
        made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
        row = weight.new_zeros((1, weight.shape[1]))
        torch.ops.mkldnn._linear_pointwise(row, made, None, "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return made
