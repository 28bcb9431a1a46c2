"""Configurations of every format are read; those of the future, and those that have lost their seal, are not."""

from typing import Any

import pytest

from kan.checkpoint.migrations import FORMAT, STEPS, migrated


def test_there_is_a_step_from_every_format() -> None:
    assert len(STEPS) == FORMAT


@pytest.mark.parametrize(
    ("config", "sealed"),
    [({}, False), ({"state_id": "3", "round": 1}, False), ({"format": 1}, False), ({"format": 2, "sha256": {"state": "0"}}, True)],
)
def test_earlier_formats(config: dict[str, Any], sealed: bool) -> None:
    before = dict(config)
    found = migrated(config, sealed, "c")
    assert found["sha256"] == config.get("sha256", {}) and config == before
    if "format" not in config:
        assert (found["round"], found["state_id"]) == (int(config.get("round", 0)), int(config.get("state_id", 0)))


@pytest.mark.parametrize(
    ("config", "sealed", "message"),
    [
        ({"format": FORMAT + 1}, True, f"c has the format {FORMAT + 1}, and this version of the library reads up to {FORMAT}: update"),
        ({"format": 2, "sha256": {}}, False, "c is not whole: its last line, the checksum, is missing"),
        ({"format": "2"}, True, "c has the format '2'; formats are numbers"),
        ({"format": True}, True, "c has the format True"),
        ({"format": -1}, True, "c has the format -1"),
        ({"format": 2}, True, "c does not describe a KAN: the digests of its files are missing"),
        ({"format": 2, "sha256": {}}, True, "c does not describe a KAN: the digests of its files are missing"),
        ({"state_id": "x"}, False, "c does not describe a KAN: invalid literal"),
        ({"round": None}, False, "c does not describe a KAN: "),
    ],
)
def test_refused(config: dict[str, Any], sealed: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        migrated(config, sealed, "c")
