from __future__ import annotations

import threading
import time

import pytest

from agentmem.backends.fair_lock import FairLock


def _until_waiting(lock: FairLock, count: int) -> None:
    while len(lock._waiting) < count:
        time.sleep(0.001)


def test_turns_are_taken_in_the_order_of_asking() -> None:
    lock, order = FairLock(), list[str]()

    def take(name: str, times: int) -> None:
        for _ in range(times):
            with lock:
                order.append(name)
                time.sleep(0.002)

    lock.acquire()
    threads = [threading.Thread(target=take, args=(name, 3)) for name in "abc"]
    for n, thread in enumerate(threads):
        thread.start()
        _until_waiting(lock, n + 1)
    lock.release()
    for thread in threads:
        thread.join()
    assert "".join(order) == "abcabcabc"


def test_only_one_holds_it() -> None:
    lock, inside = FairLock(), [0, 0]

    def work() -> None:
        for _ in range(200):
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0, 1]


@pytest.mark.parametrize("granted", [False, True])
def test_an_interrupt_while_waiting_leaves_the_line_in_order(monkeypatch: pytest.MonkeyPatch, granted: bool) -> None:
    lock = FairLock()
    lock.acquire()

    class Interrupted:
        """A turn whose waiter is interrupted, before or after it was granted."""

        def __init__(self) -> None:
            self._asked = 0

        def acquire(self) -> None:
            self._asked += 1
            if self._asked == 2:
                if granted:
                    lock.release()
                raise KeyboardInterrupt

        def release(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr("agentmem.backends.fair_lock.threading.Lock", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    if not granted:
        lock.release()
    with lock:
        assert not lock._waiting
    assert not lock._held
