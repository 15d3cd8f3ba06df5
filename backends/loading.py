"""Loading a network with the package transformers as a library should: no bar on the screen, no seed moved."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The switch for the bar is one for the whole process.
_LOCK = threading.Lock()


def load_errors() -> tuple[type[Exception], ...]:
    """What the packages raise for a model that is not there, is damaged, or is of no kind that they know."""
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No bar over the weights of a model; the bar of a download stays, and warnings too. The user's seed stays."""
    import torch
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    with _LOCK, torch.random.fork_rng(devices=[]):
        shown, downloads_shown = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
        logging.disable_progress_bar()  # the bar of downloads too
        if downloads_shown:
            enable_progress_bars()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()
                if not downloads_shown:
                    disable_progress_bars()
