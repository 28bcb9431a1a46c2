"""One process writes at a time, and others are seen."""

import gc
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from kan.checkpoint.lock import Presence, locked, others

CONTEXT = multiprocessing.get_context("spawn")


def hold(kind: str, pipe: Connection) -> None:
    """Another process: keep the lock, or be present, until it is told to go."""
    if kind == "lock":
        with locked(".", 5):
            pipe.send("ready")
            pipe.recv()
    else:
        presence = Presence(".")
        pipe.send("ready")
        pipe.recv()
        presence.leave()
    pipe.send("done")
    pipe.recv()


class Other:
    """Runs `hold` in the working directory."""

    def __init__(self, kind: str) -> None:
        self.pipe, end = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=hold, args=(kind, end), daemon=True)
        self.process.start()
        assert self.pipe.poll(60) and self.pipe.recv() == "ready"

    def go_on(self) -> None:
        self.pipe.send("go")
        assert self.pipe.poll(60) and self.pipe.recv() == "done"

    def kill(self) -> None:
        self.process.kill()
        self.process.join(60)


def test_the_lock_is_waited_for_and_given_back() -> None:
    other = Other("lock")
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"another process has been writing to '\.' for 0.2 seconds"), locked(".", 0.2):
            pass
        assert time.monotonic() - begun < 30
        other.go_on()
        with locked(".", 5):
            pass
    finally:
        other.kill()


def test_a_dead_process_holds_no_lock() -> None:
    other = Other("lock")
    other.kill()
    with locked(".", 5):
        pass


def test_others_are_seen_until_they_leave_or_die() -> None:
    assert others(".") == 0
    own = Presence(".")
    assert others(".") == 0
    one, two = Other("presence"), Other("presence")
    try:
        assert others(".") == 2
        one.go_on()
        assert others(".") == 1
        two.kill()
        assert others(".") == 0
    finally:
        one.kill()
        two.kill()
    assert len(list(Path().glob(".writer-*"))) == 1  # what the dead have left is removed
    del own
    gc.collect()
    assert not list(Path().glob(".writer-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_give_up_its_parents_presence() -> None:
    presence = Presence(".")
    if (child := os.fork()) == 0:
        presence.leave()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(Path().glob(".writer-*"))) == 1
    presence.leave()
    assert not list(Path().glob(".writer-*"))
