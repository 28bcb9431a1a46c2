"""Nothing in a checkpoint is executed, nothing damaged is taken for whole, and what is refused is named; see `tests.checkpoint.hostile`."""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kan import KAN
from kan.checkpoint.files import parse_config

ROOT = Path(__file__).resolve().parents[2]
MUTE = {"type", "flip", "swap", "history"}
"""Groups in which a case may change nothing: a type that is another's, a bit between the records of an archive, half a line."""


def test_damaged_and_hostile_files_are_refused_by_name() -> None:
    command = [sys.executable, "-m", "tests.checkpoint.hostile", "20260214", "3", "0.25"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"crashed in {lines[-1:]}: {done.stderr[-2000:]}"
    found = [line for line in lines if "outcome" in line]
    assert len(found) > 400 and done.stderr == ""
    bad = [case for case in found if case["outcome"] in ("executed", "wrong")]
    assert bad == []
    counts = collections.Counter((case["group"], case["outcome"]) for case in found)
    assert {group for group, outcome in counts if outcome == "unchanged"} <= MUTE
    assert {group for group, outcome in counts if outcome == "unknowable"} <= {"type", "flip", "truncation"}
    slow = [case["name"] for case in found if case["seconds"] > 5]
    assert slow == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 100_000, "nested more than 32 levels deep"),
        ("a: !!bool maybe", "it has the tag"),
        ("a: &a [*a]", "in a circle"),
        ("a: &a {b: 1}\nc: {<<: *a}", "it merges mappings"),
        ("a: &a [" + "1, " * 1000 + "]\nb: [" + "*a, " * 1000 + "]", "it repeats more than 100000 entries"),
        ("a: 2026-99-99", "month must be in"),
    ],
)
def test_yaml_that_costs_more_than_it_says(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"v_config.yml is not a readable configuration: .*{reason}"):
        parse_config(text.encode(), "v_config.yml")


def test_references_to_what_was_said_before_are_read() -> None:
    assert parse_config(b"a: &a [1, 2]\nb: *a\nc: [*a, *a]\n", "f")[0] == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


def test_a_damaged_history_names_no_newest_version(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 1])
    for _ in range(2):
        model.log_history("fit")
    whole = Path("model/history.txt").read_text()
    for damaged, reason in [
        (whole.replace("=> 0.2", "=> 0.1"), r"its last version is '0.1 => fit => 0.1', and .* says '0.0 => fit => 0.1'"),
        (whole.replace("0.1 => fit => 0.2", "0.1 => fit = 0.2"), "'0.1 => fit = 0.2' is no line of a history"),
        (whole.replace("=> 0.2\n", "=> 0.2*"), r"'0.1 => fit => 0.2\*' is no line of a history"),
    ]:
        Path("model/history.txt").write_text(damaged)
        with pytest.raises(ValueError, match=f"history.txt was changed or damaged: .*{reason}"):
            KAN.loadckpt("model")
        assert KAN.loadckpt("model/0.2").state_id == 2


def test_a_version_whose_line_was_damaged_is_not_written_over() -> None:
    model = KAN([2, 1])
    for _ in range(2):
        model.log_history("fit")
    file = Path("model/history.txt")
    file.write_text(file.read_text().replace("0.1 => fit => 0.2", "0.1 => fit => 0.%"))
    other = KAN([2, 1], first_init=False, state_id=1, seed=5)
    other.log_history("fit")
    assert other.state_id == 3 and torch.equal(KAN.loadckpt("model/0.2").act_fun[0].coef, model.act_fun[0].coef)
