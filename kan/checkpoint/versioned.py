"""A network whose changes become versions in a store, and which is saved and loaded: what a KAN has of checkpoints."""

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
"""Where pykan's users expect versions, so that any other folder is named with the first version of a loaded model."""


class Versioned(Network):
    """A network with a store of versions; its constructor calls `begin_versions_` at the end.

    Attributes:
        auto_save: whether changes are saved.
        round, state_id: the version that the network is, or came from.
        store: where versions are saved; shared by copies and by what is made of them.
    """

    auto_save: bool = False
    round: int = 0
    state_id: int = 0
    store: Store

    optimizer_state: Mapping[str, Any] | None = None
    """What the last fit's optimiser remembered, for ``fit(..., resume=True)``; copies of a model have it, new models do not."""

    losses: Mapping[str, float] | None = None
    """The losses at the end of the fit that made the model what it is; None if it was changed since."""

    _loaded_from: Version | None = None
    """The version in the store that a loaded model is, until it is saved as the next one, which has another round."""

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
        """Take up the store; a new model, `first_init`, is saved at once if changes are. The arguments are those of `kan.KAN`."""
        self.auto_save, self.state_id, self.round = auto_save, state_id, round
        self.store = Store(ckpt_path, keep, save_data)
        if auto_save and first_init:
            self.round, self.state_id = self.store.begin(self, self._saved())

    @property
    def ckpt_path(self) -> str:
        """The folder that versions go to, which may be set; of a model that was loaded from a folder of versions it is that folder."""
        return self.store.path

    @ckpt_path.setter
    def ckpt_path(self, folder: str | os.PathLike[str]) -> None:
        known = self.__dict__.get("store")  # a class that builds itself has none yet
        if known is None:
            self.store = Store(folder)
        elif os.fspath(folder) != known.path:
            self.store = Store(folder, known.keep, known.save_data)

    def _absent(self, name: str) -> Any:
        if name == "store" and STATED in self.__dict__:  # of a class that builds itself
            self.store = Store("./model")
            return self.store
        return super()._absent(name)

    @classmethod
    def from_state_dict(
        cls: type[V], state_dict: Mapping[str, Tensor], funs_name: SymbolicNames | None = None, auto_save: bool = False, **settings: Any
    ) -> V:
        """The model that a state dictionary comes from; see `Network.from_state_dict`.

        Nothing is written. With `auto_save` the model becomes version 0.0 of the folder `ckpt_path`, unless ``first_init=False``.
        """
        begins = settings.pop("first_init", True) and auto_save
        model = super().from_state_dict(state_dict, funs_name, auto_save=auto_save, first_init=False, **settings)
        if begins:
            model.round, model.state_id = model.store.begin(model, model._saved())
        return model

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments that describe this model as it is now."""
        return {
            **super().settings(), "auto_save": self.auto_save, "first_init": False, "ckpt_path": self.ckpt_path,
            "state_id": self.state_id, "round": self.round, "keep": self.store.keep, "save_data": self.store.save_data,
        }  # fmt: skip

    def replace(self: V, **changes: Any) -> V:
        """A new model of the same settings with some of them changed, in the same store unless `ckpt_path` is."""
        new = super().replace(**changes)
        new._loaded_from = self._loaded_from
        if "ckpt_path" not in changes:
            new.store = self.store
        return new

    def remembered_input(self) -> Tensor:
        """The last input, for calls without data.

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
        """Save the model as the next version, made by `method_name`; does nothing without `auto_save`."""
        if not method_name.startswith("fit"):
            self.losses = None
        if self.auto_save:
            version = self.round, self.state_id
            new = self.store.record(self, method_name, version, self._saved(), self.optimizer_state, self._loaded_from)
            if new != version:
                self.round, self.state_id = new
                self._loaded_from = None

    def history(self, k: str | int = "all", tree: bool = False) -> None:
        """Print the versions, one line for each with what it was made from.

        Args:
            k: only the last `k` lines.
            tree: draw them as a tree instead.

        Raises:
            FileNotFoundError: if nothing has been saved.
        """
        print(self.store.history(k, tree))

    def diff(self, one: str, other: str) -> Difference:
        """What changed between two versions of this model's folder: shape, edges, symbolic edges, grids, losses.

        Raises:
            FileNotFoundError, ValueError: if one is not there, or damaged.
        """
        paths = [self.store.require(version_of(model_id)) for model_id in (one, other)]
        return difference(*paths)

    def _tell_of_unnamed_functions(self, method: str) -> None:
        unnamed = [*unnamed_functions(self)]
        if unnamed:
            warnings.warn(
                f"{method}: the function of the edge(s) {some_of(unnamed)} is one of your own, and only the names of functions are saved. "
                f"Load it with functions={{{unnamed[0]!r}: f}}, or register it with add_symbolic and fix the edge by its name.",
                stacklevel=3,
            )

    def saveckpt(self, path: str | os.PathLike[str] = "model") -> None:
        """Write the model to ``<path>_config.yml``, ``<path>_state`` and ``<path>_cache_data``, in the place of a former checkpoint.

        Raises:
            OSError: if it cannot be written; a former checkpoint is as it was.

        Warns:
            UserWarning: if edges have functions of the user's own, which are not saved.
        """
        files.save(self, path, self._saved(), self.optimizer_state, data=self.store.save_data)
        self._tell_of_unnamed_functions("saveckpt")

    @classmethod
    def loadckpt(
        cls: type[V],
        path: str | os.PathLike[str] = "model",
        device: torch.device | str | None = None,
        *,
        functions: files.Functions | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> V:
        """The model saved under `path`; what follows is saved in the next round.

        Args:
            path: what the names of the files begin with, such as ``model/0.1``; or a folder of versions, for the one that was saved last.
            device: where to put it; the device it was saved from if that is at hand, the CPU otherwise, when not given.
            functions: symbolic functions that are not in the library, by name or by edge, as in ``{"bump": f, "(0, 1, 2)": g}``.
            ckpt_path: folder for the versions to come, the model's `ckpt_path`. When not given it is the folder of versions that `path` is
                in, which is printed with the first version unless it is ``./model``, or else the one that the checkpoint names.

        Raises:
            FileNotFoundError, ValueError: if a file is missing or does not fit; nothing in the files is executed.
        """
        path = os.fspath(path)
        if not os.path.exists(f"{path}_config.yml"):
            path = newest(path) or path
        return cls._loaded(path, device, functions, ckpt_path)

    @classmethod
    def _loaded(
        cls: type[V],
        path: str,
        device: torch.device | str | None,
        functions: files.Functions | None,
        ckpt_path: str | os.PathLike[str] | None = None,
        base_fun: str | Callable[[Tensor], Tensor] | None = None,
    ) -> V:
        """`base_fun` stands in for one that the checkpoint cannot name."""
        return files.despite_writers(path, lambda: cls._read(path, device, functions, ckpt_path, base_fun))

    @classmethod
    def _read(
        cls: type[V],
        path: str,
        device: torch.device | str | None,
        functions: files.Functions | None,
        ckpt_path: str | os.PathLike[str] | None,
        base_fun: str | Callable[[Tensor], Tensor] | None,
    ) -> V:
        config = files.read_config(path)
        unnamed = base_fun is not None and config["base_fun_name"] not in BASE_FUNCTIONS
        optimizer = files.load_optimizer(path, config)
        model = files.load(
            cls, path, config, device, functions, first_init=False, auto_save=bool(config.get("auto_save", True)),
            ckpt_path=folder_of(config, path) if ckpt_path is None else ckpt_path, state_id=config["state_id"], round=config["round"] + 1,
            keep=config.get("keep"), save_data=config.get("save_data", True),
            **({"base_fun": copy.deepcopy(base_fun) if isinstance(base_fun, nn.Module) else base_fun} if unnamed else {}),
        )  # fmt: skip
        model.optimizer_state, model.losses = optimizer, config.get("losses")
        model._loaded_from = config["round"], config["state_id"]
        model.store.unexpected = ckpt_path is None and os.path.realpath(model.ckpt_path) != os.path.realpath(DEFAULT_FOLDER)
        return model

    def checkout(self: V, model_id: str) -> V:
        """The version `model_id` of this model's folder, as `loadckpt` gives it.

        Raises:
            FileNotFoundError, ValueError: if there is no such version, or a file does not fit.
        """
        version = version_of(model_id)
        functions = {**unnamed_functions(self), **self.store.unnamed.get(version, {})}
        return type(self)._loaded(self.store.require(version), self.device, functions, self.ckpt_path, self.base_fun)

    def rewind(self: V, model_id: str) -> V:
        """The version `model_id`, as the start of a new round; this model is left alone.

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
            format: ``"safetensors"`` or ``"zip"``; the first where safetensors is installed, when not given.

        Raises:
            OSError: if it cannot be written; a former file of that name is as it was.

        Warns:
            UserWarning: as `saveckpt`.
        """
        single.save(self, path, format)
        self._tell_of_unnamed_functions("save")

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
        """The model that `save` has written.

        Args:
            path: the file.
            map_location: where to put it; the CPU when not given.
            functions: symbolic functions that are not in the library, by name or by edge, as in ``{"bump": f, "(0, 1, 2)": g}``.
            auto_save, ckpt_path: as in the constructor, for the changes to come.

        Raises:
            FileNotFoundError, ValueError: if it is missing, damaged, or not such a file; nothing in it is executed.
        """
        return single.load(cls, path, map_location, functions, auto_save=auto_save, ckpt_path=ckpt_path, first_init=False)
