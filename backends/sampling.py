"""From the logits behind a prompt to its next token: the likeliest, or one drawn, of those that a grammar allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from agentmem.backends.guided import Guide


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn where the temperature is above 0: of the `top_k` likeliest (0: of all), and of those of the
    likeliest that together reach the probability `top_p` (nucleus sampling, Holtzman et al., arXiv 1904.09751)."""

    top_k: int = 0
    top_p: float = 1.0


class Picker:
    """Picks the tokens of one completion. Its draws depend on `seed` alone, whatever else is in the batch; without a
    seed they are different each time. The process's own random numbers are left alone."""

    def __init__(self, temperature: float, seed: int | None, sampling: Sampling, guide: Guide | None) -> None:
        import torch

        self.guide = guide
        self._temperature = temperature
        self._sampling = sampling
        self._draws = torch.Generator()
        if seed is None:
            self._draws.seed()
        else:
            self._draws.manual_seed(seed % 2**63)

    @property
    def plain(self) -> bool:
        """It takes the likeliest token, whichever it is."""
        return self.guide is None and self._temperature <= 0

    def pick(self, logits: torch.Tensor) -> int:
        """The next token, from float32 logits of shape (vocabulary,). Raises BadCompletionError for a grammar's end."""
        logits = logits.cpu()  # a generator of the CPU draws the same on every device
        if self.guide is not None:
            allowed = self.guide.allowed()[: len(logits)]
            logits = logits.masked_fill(~allowed, float("-inf"))
        if self._temperature <= 0:
            return int(logits.argmax())
        return self._drawn(logits / self._temperature)

    def _drawn(self, logits: torch.Tensor) -> int:
        import torch

        best, ids = logits.sort(descending=True, stable=True)
        if self._sampling.top_k:
            best = best[: self._sampling.top_k]
        chances = best.softmax(-1)
        before = chances.cumsum(-1) - chances  # the likeliest always stays
        chances = chances.masked_fill(before >= self._sampling.top_p, 0.0)
        return int(ids[torch.multinomial(chances, 1, generator=self._draws)])
