"""The store of versions: every change of a model becomes ``round.state``, ``0.0`` at birth, ``0.1`` after the first change and so on.

Models that come from one another (by pruning, refining, rewinding) share one store, so that no version is given twice.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kan.checkpoint.format import save
from kan.network.network import Network

__all__ = ["Store", "version_of"]

HISTORY = "history.txt"


class Store:
    """Versions in a folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.used: set[tuple[int, int]] = set()
        self.broken = False

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> Store:
        """The store of a folder that holds versions already."""
        store = cls(path)
        history = Path(path) / HISTORY
        if history.exists():
            for line in history.read_text().splitlines():
                name = line.rsplit("=>", 1)[-1].strip()
                if name.replace(".", "", 1).isdigit() and "." in name:
                    store.used.add(version_of(name))
        return store

    def __deepcopy__(self, memo: dict[int, Any]) -> Store:
        return self  # copies of a model write to the same folder and must not give a version twice

    def begin(self, network: Network, extra: dict[str, Any]) -> None:
        """Version 0.0 of a new model; the folder's history starts anew."""

        def write() -> None:
            os.makedirs(self.path, exist_ok=True)
            print(f"checkpoint directory created: {self.path}")
            Path(self.path, HISTORY).write_text("### Round 0 ###\ninit => 0.0\n")
            save(network, self._file(0, 0), extra)
            print("saving model version 0.0")

        self.used = {(0, 0)}
        self._attempt(write)

    def record(
        self,
        network: Network,
        method: str,
        version: tuple[int, int],
        extra: dict[str, Any],
        optimizer: Mapping[str, Any] | None = None,
    ) -> tuple[int, int]:
        """Save `network`, made by `method` from `version`, as the next free version of the round, and return that."""
        round_, state = version
        new = (round_, self._free(round_, state + 1))

        def write() -> None:
            save(network, self._file(*new), {**extra, "state_id": new[1], "round": new[0]}, optimizer)
            self._append(f"{round_}.{state} => {method} => {new[0]}.{new[1]}")
            print(f"saving model version {new[0]}.{new[1]}")

        self.used.add(new)
        self._attempt(write)
        return new

    def rewound(self, network: Network, version: tuple[int, int], extra: dict[str, Any]) -> tuple[int, int]:
        """Save `network`, restored from `version`, as the first version of a new round, and return that."""
        new = (max(round_ for round_, _ in self.used | {version}) + 1, version[1])

        def write() -> None:
            self._append(f"### Round {new[0]} ###")
            save(network, self._file(*new), {**extra, "state_id": new[1], "round": new[0]})
            self._append(f"{version[0]}.{version[1]} => rewind => {new[0]}.{new[1]}")
            print(f"rewind to model version {version[0]}.{version[1]}, renamed as {new[0]}.{new[1]}")

        self.used.add(new)
        self._attempt(write)
        return new

    def history(self, k: str | int = "all") -> str:
        """The history file, or its last `k` lines.

        Raises:
            FileNotFoundError: if nothing has been saved.
        """
        file = Path(self.path, HISTORY)
        if not file.exists():
            raise FileNotFoundError(f"there is no history: {file} does not exist, no version has been saved.")
        lines = file.read_text().splitlines()
        return "\n".join(lines if k == "all" else lines[-int(k) :])

    def _free(self, round_: int, state: int) -> int:
        while (round_, state) in self.used:
            state += 1
        return state

    def _file(self, round_: int, state: int) -> str:
        return os.path.join(self.path, f"{round_}.{state}")

    def _append(self, line: str) -> None:
        with open(os.path.join(self.path, HISTORY), "a") as file:
            file.write(line + "\n")

    def _attempt(self, write: Any) -> None:
        """Write, or warn once and go on without: a full or read-only disk must not cost a training."""
        if self.broken:
            return
        try:
            write()
        except OSError as error:
            self.broken = True
            warnings.warn(
                f"checkpoints cannot be written to {self.path!r} ({error}); training goes on without saving. Choose another ckpt_path, or "
                f"auto_save=False to do without.",
                stacklevel=_level_of_caller(),
            )


def _level_of_caller() -> int:
    """Stack level, seen from the caller of this function, of the first frame outside of this package."""
    package, level, frame = __name__.partition(".")[0], 0, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level + 1


def version_of(model_id: str) -> tuple[int, int]:
    """``'0.1'`` as ``(0, 1)``.

    Raises:
        ValueError: if it is no version.
    """
    round_, dot, state = str(model_id).partition(".")
    if not (dot and round_.isdigit() and state.isdigit()):
        raise ValueError(f"a model version is written round.state, such as '0.1'; got {model_id!r}.")
    return int(round_), int(state)
