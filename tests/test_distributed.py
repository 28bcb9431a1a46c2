"""Two processes on this machine train one model together."""

import time
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from tests.processes import train_together

PATIENCE = 240
"""Seconds after which the processes are ended."""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_distributed_data_parallel(tmp_path: Path) -> None:
    context = multiprocessing.start_processes(train_together, (str(tmp_path),), nprocs=2, join=False, start_method="spawn")
    assert context is not None
    end = time.monotonic() + PATIENCE
    try:
        while not context.join(timeout=1):  # raises the error of a process that fails
            assert time.monotonic() < end, "the processes wait for each other"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
    one, other = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    for name, outcome in one.items():
        assert outcome["moved"], name
        assert torch.equal(outcome["parameters"], other[name]["parameters"]), name
