"""The part of a KAN that deals with checkpoints: its changes become versions in a store, and it is saved and loaded."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kan.checkpoint import format as files
from kan.checkpoint import single
from kan.checkpoint.difference import Difference, difference
from kan.checkpoint.lineage import Version
from kan.checkpoint.store import Store, folder_of, newest, unnamed_functions, version_of
from kan.errors import NoDataError, some_of
from kan.network.layered import BASE_FUNCTIONS
from kan.network.network import Network
from kan.network.state import SymbolicNames
from kan.network.user_code.attributes import STATED

__all__ = ["Versioned"]

V = TypeVar("V", bound="Versioned")

DEFAULT_FOLDER = "./model"
"""Folder of versions that pykan's users expect. Any other one is printed with the first version of a loaded model."""


class Versioned(Network):
    """A network with a store of versions. The constructors of subclasses call `begin_versions_` at the end.

    Attributes:
        auto_save: whether every change is saved.
        round, state_id: the version that the network is, or was made from.
        store: the store of versions, shared by copies and by the models made from this one.
    """

    auto_save: bool = False
    round: int = 0
    state_id: int = 0
    store: Store

    optimizer_state: Mapping[str, Any] | None = None
    """State of the optimiser after the last fit, for ``fit(..., resume=True)``; copies of a model have it, new models do not."""

    losses: Mapping[str, float] | None = None
    """Losses at the end of the last fit; None if the model was changed afterwards."""

    _loaded_from: Version | None = None
    """The version in the store that a loaded model equals, until it is saved in the next round."""

    def begin_versions_(
        self,
        auto_save: bool,
        first_init: bool,
        ckpt_path: str | os.PathLike[str],
        state_id: int,
        round: int,
        keep: int | None,
        save_data: bool,
    ) -> None:
        """Create the store, and save a new model (`first_init`) if changes are saved. The arguments are those of `kan.KAN`."""
        self.auto_save, self.state_id, self.round = auto_save, state_id, round
        self.store = Store(ckpt_path, keep, save_data)
        if auto_save and first_init:
            self.round, self.state_id = self.store.begin(self, self._saved())

    @property
    def ckpt_path(self) -> str:
        """The folder of versions, which may be assigned. A model that was loaded from a folder of versions continues in that folder."""
        return self.store.path

    @ckpt_path.setter
    def ckpt_path(self, folder: str | os.PathLike[str]) -> None:
        known = self.__dict__.get("store")  # a subclass with a constructor of its own has none yet
        if known is None:
            self.store = Store(folder)
        elif os.fspath(folder) != known.path:
            self.store = Store(folder, known.keep, known.save_data)

    def _absent(self, name: str) -> Any:
        if name == "store" and STATED in self.__dict__:  # a subclass with a constructor of its own
            self.store = Store("./model")
            return self.store
        return super()._absent(name)

    @classmethod
    def from_state_dict(
        cls: type[V], state_dict: Mapping[str, Tensor], funs_name: SymbolicNames | None = None, auto_save: bool = False, **settings: Any
    ) -> V:
        """Return the model that a state dictionary was taken from; see `Network.from_state_dict`.

        By default nothing is written. With `auto_save`, the model becomes version 0.0 of the folder `ckpt_path`, unless
        ``first_init=False``.
        """
        begins = settings.pop("first_init", True) and auto_save
        model = super().from_state_dict(state_dict, funs_name, auto_save=auto_save, first_init=False, **settings)
        if begins:
            model.round, model.state_id = model.store.begin(model, model._saved())
        return model

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments that describe the present model."""
        return {
            **super().settings(), "auto_save": self.auto_save, "first_init": False, "ckpt_path": self.ckpt_path,
            "state_id": self.state_id, "round": self.round, "keep": self.store.keep, "save_data": self.store.save_data,
        }  # fmt: skip

    def replace(self: V, **changes: Any) -> V:
        """Return a new model with some settings changed, in the same store unless `ckpt_path` is changed."""
        new = super().replace(**changes)
        new._loaded_from = self._loaded_from
        if "ckpt_path" not in changes:
            new.store = self.store
        return new

    def remembered_input(self) -> Tensor:
        """Return the last input, for calls without data.

        Raises:
            NoDataError: if there is none.
        """
        if self.last_input is None and not self.store.save_data:
            raise NoDataError(
                "the model has no data: it has seen none since it was made or loaded, and with save_data=False a checkpoint holds none. "
                "Call model(x) or model.fit(dataset) first."
            )
        return super().remembered_input()

    def _saved(self) -> dict[str, Any]:
        return {
            "auto_save": self.auto_save, "ckpt_path": self.ckpt_path, "state_id": self.state_id, "round": self.round,
            "keep": self.store.keep, "losses": self.losses,
        }  # fmt: skip

    def log_history(self, method_name: str) -> None:
        """Save the model as the next version, made by `method_name`; without `auto_save`, nothing is saved."""
        if not method_name.startswith("fit"):
            self.losses = None
        if self.auto_save:
            version = self.round, self.state_id
            new = self.store.record(self, method_name, version, self._saved(), self.optimizer_state, self._loaded_from)
            if new != version:
                self.round, self.state_id = new
                self._loaded_from = None

    def history(self, k: str | int = "all", tree: bool = False) -> None:
        """Print the versions, one line each, with the version that each was made from.

        Args:
            k: print the last `k` lines only.
            tree: draw a tree instead.

        Raises:
            FileNotFoundError: if nothing has been saved.
        """
        print(self.store.history(k, tree))

    def diff(self, one: str, other: str) -> Difference:
        """Return what changed between two versions of this model's folder: shape, edges, symbolic edges, grids, losses.

        Raises:
            FileNotFoundError, ValueError: if one of them is missing or damaged.
        """
        paths = [self.store.require(version_of(model_id)) for model_id in (one, other)]
        return difference(*paths)

    def saveckpt(self, path: str | os.PathLike[str] = "model") -> None:
        """Write the model to ``<path>_config.yml``, ``<path>_state`` and ``<path>_cache_data``, replacing an older checkpoint there.

        Raises:
            OSError: if it cannot be written; an older checkpoint is not changed.

        Warns:
            UserWarning: if edges have functions of the user's own, which are not saved.
        """
        files.save(self, path, self._saved(), self.optimizer_state, data=self.store.save_data)
        _warn_of_unnamed_functions(self, "saveckpt")

    @classmethod
    def loadckpt(
        cls: type[V],
        path: str | os.PathLike[str] = "model",
        device: torch.device | str | None = None,
        *,
        functions: files.Functions | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> V:
        """Load the model saved under `path`. Its later versions belong to the next round.

        Args:
            path: the common beginning of the file names, such as ``model/0.1``; or a folder of versions, for the one saved last.
            device: device of the model; by default the one it was saved from if available, otherwise the CPU.
            functions: symbolic functions that are not in the library, by name or by edge, as in ``{"bump": f, "(0, 1, 2)": g}``.
            ckpt_path: folder of later versions. By default it is the folder of versions that contains `path`, which is printed with the
                first version unless it is ``./model``; if `path` is in no such folder, the one that the checkpoint names.

        Raises:
            FileNotFoundError, ValueError: if a file is missing or inconsistent; nothing in the files is executed.
        """
        path = os.fspath(path)
        if not os.path.exists(f"{path}_config.yml"):
            path = newest(path) or path
        return _loaded(cls, path, device, functions, ckpt_path)

    def checkout(self: V, model_id: str) -> V:
        """Load the version `model_id` of this model's folder, as `loadckpt` does.

        Raises:
            FileNotFoundError, ValueError: if there is no such version, or a file is inconsistent.
        """
        version = version_of(model_id)
        functions = {**unnamed_functions(self), **self.store.unnamed.get(version, {})}
        return _loaded(type(self), self.store.require(version), self.device, functions, self.ckpt_path, self.base_fun)

    def rewind(self: V, model_id: str) -> V:
        """Load the version `model_id` as the start of a new round; this model does not change.

        Raises:
            FileNotFoundError, ValueError: as for `checkout`.
        """
        version = version_of(model_id)
        model = self.checkout(model_id)
        model.store = self.store
        if model.auto_save:
            model.round, model.state_id = self.store.rewound(model, version, model._saved(), model.optimizer_state)
            model._loaded_from = None
        return model

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        """Write the model to a single file; see `kan.checkpoint.single`.

        Args:
            path: the file.
            format: ``"safetensors"`` or ``"zip"``; by default the first if safetensors is installed.

        Raises:
            OSError: if it cannot be written; an older file of that name is not changed.

        Warns:
            UserWarning: as for `saveckpt`.
        """
        single.save(self, path, format)
        _warn_of_unnamed_functions(self, "save")

    @classmethod
    def load(
        cls: type[V],
        path: str | os.PathLike[str],
        map_location: torch.device | str | None = None,
        *,
        functions: files.Functions | None = None,
        auto_save: bool = False,
        ckpt_path: str | os.PathLike[str] = "./model",
    ) -> V:
        """Load a model that `save` has written.

        Args:
            path: the file.
            map_location: device of the model; by default the CPU.
            functions: symbolic functions that are not in the library, by name or by edge, as in ``{"bump": f, "(0, 1, 2)": g}``.
            auto_save, ckpt_path: as in the constructor, for later changes.

        Raises:
            FileNotFoundError, ValueError: if the file is missing, damaged, or was not written by `save`; nothing in it is executed.
        """
        return single.load(cls, path, map_location, functions, auto_save=auto_save, ckpt_path=ckpt_path, first_init=False)


def _loaded(
    kind: type[V],
    path: str,
    device: torch.device | str | None,
    functions: files.Functions | None,
    ckpt_path: str | os.PathLike[str] | None,
    base_fun: str | Callable[[Tensor], Tensor] | None = None,
) -> V:
    """Return the model of the class `kind` in a checkpoint; `base_fun` replaces a base function that the checkpoint cannot name."""

    def read() -> V:
        config = files.read_config(path)
        unnamed = base_fun is not None and config["base_fun_name"] not in BASE_FUNCTIONS
        optimizer = files.load_optimizer(path, config)
        model = files.load(
            kind, path, config, device, functions, first_init=False, auto_save=bool(config.get("auto_save", True)),
            ckpt_path=folder_of(config, path) if ckpt_path is None else ckpt_path, state_id=config["state_id"], round=config["round"] + 1,
            keep=config.get("keep"), save_data=config.get("save_data", True),
            **({"base_fun": copy.deepcopy(base_fun) if isinstance(base_fun, nn.Module) else base_fun} if unnamed else {}),
        )  # fmt: skip
        model.optimizer_state, model.losses = optimizer, config.get("losses")
        model._loaded_from = config["round"], config["state_id"]
        model.store.unexpected = ckpt_path is None and os.path.realpath(model.ckpt_path) != os.path.realpath(DEFAULT_FOLDER)
        return model

    return files.despite_writers(path, read)


def _warn_of_unnamed_functions(model: Versioned, method: str) -> None:
    unnamed = [*unnamed_functions(model)]
    if unnamed:
        warnings.warn(
            f"{method}: the function of the edge(s) {some_of(unnamed)} is one of your own, and only the names of functions are saved. "
            f"Load it with functions={{{unnamed[0]!r}: f}}, or register it with add_symbolic and fix the edge by its name.",
            stacklevel=3,
        )
