"""The store of versions: every change of a model becomes a version ``round.state``, which begins with ``0.0``, ``0.1``, ...

Models made from one another (by pruning, refining, rewinding) share one store, so that no version is used twice. The versions that other
processes save in the same folder are read under a lock. A version that cannot be written causes a warning and does not interrupt training.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kan.checkpoint import lineage
from kan.checkpoint.files import SEAL, Link, digest, identity
from kan.checkpoint.format import VERSION, read_config, save
from kan.checkpoint.lineage import Entry, Version, version_of, written
from kan.checkpoint.lock import Presence, locked, others
from kan.errors import level_of_caller
from kan.network.network import Network
from kan.output import say
from kan.symbolic.function import ANONYMOUS, SymbolicFunction
from kan.symbolic.user_function import WrittenFunction

__all__ = ["Store", "folder_of", "newest", "unnamed_functions", "version_of"]

PATIENCE = 10.0
"""Time, in seconds, to wait for another process that writes."""
KINDS = ("config.yml", "state", "cache_data", "optimizer")


class Store:
    """The versions in a folder.

    Args:
        path: the folder.
        keep: number of versions, among those saved through this store, that are kept; None for all.
        save_data: whether the last input of a model is saved with it.

    Attributes:
        made: versions that were saved through this store.
        unnamed: functions in these versions that a checkpoint cannot name, by edge.
        unexpected: whether the user may expect another folder; then the folder is printed with the first version saved there.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int | None = None, save_data: bool = True) -> None:
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
            raise ValueError(f"keep, the number of versions that stay, must be an integer of at least 1, or None for all; got {keep!r}.")
        self.path, self.keep, self.save_data = os.fspath(path), keep, save_data
        self.made: list[Version] = []
        self.unnamed: dict[Version, dict[str, SymbolicFunction]] = {}
        self.unexpected = False
        self._warned = self._told = False
        self._presence: Presence | None = None
        self._data: tuple[str, Link, Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Store:
        return self  # copies of a model write to the same folder and must not use a version twice

    def __reduce__(self) -> tuple[type[Store], tuple[Any, ...]]:
        return Store, (self.path, self.keep, self.save_data)  # in another process, one of several that write to the folder

    # Writing

    def begin(self, network: Network, extra: Mapping[str, Any]) -> Version:
        """Save a new model as version 0.0 and return the version; the history of the folder begins again.

        If another process works in the folder, the version is the first one of a new round, and the history continues.
        """

        def write() -> Version:
            os.makedirs(self.path, exist_ok=True)
            say(f"checkpoint directory created: {self.path}")
            with locked(self.path, PATIENCE):
                shared = others(self.path) > 0
                new = (self._next_round(), 0) if shared else (0, 0)
                line = lineage.line(Entry(new, None, "init", False))
                self._save(network, new, line, extra, None)
                if shared:
                    lineage.append(self.path, f"### Round {new[0]} ###", line)
                else:
                    lineage.begin(self.path)
                self.made.append(new)
            if shared:
                self._tell_once(f"another process saves versions in {self.path!r}; those of this model begin with {written(new)}.")
            say(f"saving model version {written(new)}")
            return new

        return self._attempt(write, (0, 0))

    def record(
        self,
        network: Network,
        method: str,
        version: Version,
        extra: Mapping[str, Any],
        optimizer: Mapping[str, Any] | None = None,
        parent: Version | None = None,
    ) -> Version:
        """Save `network` as the next free version after `version` in the round.

        Args:
            network: the network.
            method: the method that made it.
            version: its present version.
            extra, optimizer: see `kan.checkpoint.format.save`.
            parent: the version that it was made from, if not `version`.

        Returns:
            The new version; `version` if nothing could be saved.
        """

        def write() -> Version:
            os.makedirs(self.path, exist_ok=True)
            with locked(self.path, PATIENCE):
                taken = self._taken()
                new, mine = (version[0], version[1] + 1), {*self.made}
                foreign = False
                while new in taken or new in mine or self._is_pykans(new):
                    foreign = foreign or new not in mine
                    new = (new[0], new[1] + 1)
                line = lineage.line(Entry(new, parent or version, " ".join(method.splitlines()), False))
                self._save(network, new, line, extra, optimizer)
                lineage.append(self.path, line)
                self.made.append(new)
                foreign = foreign and others(self.path) > 0
            if self.unexpected:
                say(f"checkpoint directory: {self.path}")
                self.unexpected = False
            if foreign:
                self._tell_once(f"another process has taken the next version in {self.path!r}; this one is saved as {written(new)}.")
            say(f"saving model version {written(new)}")
            return new

        return self._attempt(write, version)

    def rewound(self, network: Network, version: Version, extra: Mapping[str, Any], optimizer: Mapping[str, Any] | None = None) -> Version:
        """Save `network`, restored from `version`, as the first version of a new round, and return the new version."""

        def write() -> Version:
            with locked(self.path, PATIENCE):
                new = (max(self._next_round(), version[0] + 1), version[1])
                line = lineage.line(Entry(new, version, "rewind", False))
                self._save(network, new, line, extra, optimizer)
                lineage.append(self.path, f"### Round {new[0]} ###", line)
                self.made.append(new)
            say(f"rewind to model version {written(version)}, renamed as {written(new)}")
            return new

        return self._attempt(write, (version[0] + 1, version[1]))

    def _next_round(self) -> int:
        return max(lineage.rounds(self.path) | {round_ for round_, _ in self.made}, default=-1) + 1

    def _is_pykans(self, version: Version) -> bool:
        """Whether pykan has rewound to `version` and not yet recorded it in the history."""
        file = Path(f"{self.file(version)}_config.yml")
        return version[0] in lineage.rounds(self.path) and file.exists() and SEAL not in file.read_bytes()

    def _taken(self) -> set[Version]:
        """Return the versions that must not be overwritten."""
        taken = lineage.taken(self.path)
        try:
            lineage.check(self.path)
        except ValueError:  # the damaged history may have contained any of the versions in the folder
            found = (re.fullmatch(f"({VERSION.pattern})_config.yml", name) for name in os.listdir(self.path))
            taken |= {version_of(match[1]) for match in found if match}
        return taken

    def _save(self, network: Network, new: Version, line: str, extra: Mapping[str, Any], optimizer: Mapping[str, Any] | None) -> None:
        if self._presence is None:
            self._presence = Presence(self.path)
        entries = {**extra, "round": new[0], "state_id": new[1], "version": written(new), "history": line}
        kept = network.last_input if self.save_data else None
        key = None if kept is None else _fingerprint(kept)
        same = self._data is not None and self._data[0] == key and identity(self._data[1].file) == self._data[2]
        known = self._data[1] if self._data is not None and same else None
        data = save(network, self.file(new), entries, optimizer, data=self.save_data, known=known)
        self._data = None if key is None else (key, data, identity(data.file))
        if unnamed := unnamed_functions(network):
            self.unnamed[new] = unnamed

    def _make_room(self) -> None:
        """Remove the oldest versions of this store beyond `keep`, after they have been marked in the history."""
        if self.keep is None or len(self.made) <= self.keep:
            return
        old = self.made[: -self.keep]
        with locked(self.path, PATIENCE):
            lineage.mark_removed(self.path, old)
            self.made = self.made[-self.keep :]
            for version in old:
                self.unnamed.pop(version, None)
                for kind in KINDS:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{self.file(version)}_{kind}")

    def _attempt(self, write: Callable[[], Version], otherwise: Version) -> Version:
        """Return the result of `write`, or `otherwise` if it fails, and remove old versions. Repeated failures cause one warning only."""
        version = otherwise
        try:
            version = write()
            self._make_room()
        except OSError as error:
            if not self._warned:
                self._tell(
                    f"checkpoints cannot be written to {self.path!r} ({error}); training goes on without saving. Choose another ckpt_path, "
                    f"or auto_save=False to do without."
                )
            self._warned = True
        else:
            self._warned = False
        return version

    def _tell_once(self, message: str) -> None:
        if not self._told:
            self._tell(message)
        self._told = True

    def _tell(self, message: str) -> None:
        warnings.warn(message, stacklevel=level_of_caller())

    # Reading

    def file(self, version: Version) -> str:
        """Return the common beginning of the file names of a version."""
        return os.path.join(self.path, written(version))

    def require(self, version: Version) -> str:
        """Return the `file` of a version that has not been removed.

        Raises:
            FileNotFoundError: if it has been removed.
        """
        if self.keep is not None and any(entry.version == version and entry.removed for entry in lineage.entries(self.path)):
            raise FileNotFoundError(f"the version {written(version)} has been removed, as keep={self.keep} versions stay: see history().")
        return self.file(version)

    def history(self, k: str | int = "all", tree: bool = False) -> str:
        """Return the text of the history, its last `k` lines, or the versions as a tree.

        Raises:
            FileNotFoundError: if nothing has been saved.
        """
        if not Path(self.path, lineage.HISTORY).exists():
            raise FileNotFoundError(
                f"there is no history: {os.path.join(self.path, lineage.HISTORY)} does not exist, no version has been saved."
            )
        if tree:
            return lineage.tree(self.path)
        lines = lineage.lines(self.path)
        return "\n".join(lines if k == "all" else lines[-int(k) :])


def folder_of(config: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    """Return the folder for the versions of a loaded model.

    For a version of a store it is the folder that contains the version, even if that was moved. For other checkpoints it is the folder
    named in the configuration, which must lie in the working directory or beside the checkpoint, or contain versions already.

    Args:
        config: configuration of the checkpoint.
        path: common beginning of its file names.

    Raises:
        ValueError: if the configuration names any other folder.
    """
    named, (folder, name) = str(config.get("ckpt_path", "./model")), os.path.split(os.fspath(path))
    folder = folder or os.curdir
    if re.fullmatch(VERSION, name) and os.path.exists(os.path.join(folder, lineage.HISTORY)):
        return named if os.path.realpath(named) == os.path.realpath(folder) else folder
    near = any(os.path.realpath(named).startswith(os.path.join(os.path.realpath(root), "")) for root in (os.curdir, folder))
    if near or not config.get("auto_save", True) or os.path.exists(os.path.join(named, lineage.HISTORY)):
        return named
    raise ValueError(
        f"{os.fspath(path)}_config.yml would have the model's versions saved in {named!r}, which is neither in the working directory, nor "
        f"beside the checkpoint, nor a folder of versions: say where with KAN.loadckpt(path, ckpt_path=...). Nothing was loaded."
    )


def unnamed_functions(network: Network) -> dict[str, SymbolicFunction]:
    """Return the functions of `network` that a checkpoint cannot name, by edge, as `kan.checkpoint.format.load` takes them."""
    return {
        f"({l}, {i}, {j})": layer.function(i, j)[1]
        for l, layer in enumerate(network.symbolic_layers)
        for (j, i), name in layer.names_to_save().items()
        if name == ANONYMOUS or isinstance(layer.function(i, j)[1], WrittenFunction)
    }


def _fingerprint(data: Tensor) -> str:
    """Return a digest of data, with its type and shape."""
    array = data.detach().cpu().contiguous()
    return f"{array.dtype} {tuple(array.shape)} {digest(array.view(torch.uint8).numpy().data)}"


def newest(folder: str | os.PathLike[str]) -> str | None:
    """Return the last version saved in a folder, as ``folder/round.state``; None if its history contains none.

    Raises:
        FileNotFoundError, ValueError: if the history or that version is damaged.
    """
    folder = os.fspath(folder)
    lineage.check(folder)
    there = [entry for entry in lineage.entries(folder) if not entry.removed]
    if not there:
        return None
    path = os.path.join(folder, written(there[-1].version))
    known = read_config(path).get("history")
    if known not in (None, lineage.line(there[-1])):
        raise ValueError(
            f"{os.path.join(folder, lineage.HISTORY)} was changed or damaged: its last version is {lineage.line(there[-1])!r}, and the "
            f"configuration of that version says {known!r}. Load a version by its name."
        )
    return path
