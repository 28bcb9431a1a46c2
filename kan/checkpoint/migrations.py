"""Conversion of configurations from earlier formats to the present one.

Format 0 is pykan's, without an entry ``format``. Format 1 has no checksums. From format 2 on, a configuration ends with its own digest and
contains the digests of the files beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FORMAT", "migrated"]

FORMAT = 2
"""Format of the configurations that are written."""
SEALED_SINCE = 2
"""First format with digests."""

Config = dict[str, Any]


def _from_pykan(config: Config) -> Config:
    # After a rewind, pykan writes the state as text.
    return {**config, "state_id": int(config.get("state_id", 0)), "round": int(config.get("round", 0))}


def _with_digests(config: Config) -> Config:
    return {**config, "sha256": {}}


STEPS: tuple[Callable[[Config], Config], ...] = (_from_pykan, _with_digests)
"""Conversions from each format to the next."""


def migrated(config: Config, sealed: bool, file: str) -> Config:
    """Return `config` in the present format.

    Args:
        config: a configuration of any format.
        sealed: whether it ended with its digest.
        file: its name, for messages.

    Raises:
        ValueError: if the format is a later one, or requires digests that are missing.
    """
    number = config.get("format", 0)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{file} has the format {number!r}; formats are numbers.")
    if number > FORMAT:
        raise ValueError(f"{file} has the format {number}, and this version of the library reads up to {FORMAT}: update the library.")
    if number >= SEALED_SINCE and not sealed:
        raise ValueError(f"{file} is not whole: its last line, the checksum, is missing. Nothing was loaded.")
    try:
        for step in STEPS[number:]:
            config = step(config)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{file} does not describe a KAN: {error}") from error
    digests = config.get("sha256")
    if not isinstance(digests, dict) or (number >= SEALED_SINCE and "state" not in digests):
        raise ValueError(f"{file} does not describe a KAN: the digests of its files are missing.")
    return config
