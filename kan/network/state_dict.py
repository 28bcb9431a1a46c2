"""State dictionaries of networks: what `kan.network.state` describes travels with the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from kan.network import state
from kan.network.layered import LayeredNetwork

__all__ = ["StatefulNetwork"]

Self = TypeVar("Self", bound="StatefulNetwork")


class StatefulNetwork(LayeredNetwork):
    """A network whose state dictionary tells which symbolic functions, input columns and settings belong to its tensors."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})[state.ARCHITECTURE] = state.describe(self)
        destination.update({prefix + label: tensor for label, tensor in state.maps_of(self).items()})

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if state.ARCHITECTURE in local_metadata:
            try:
                with state.still_frozen(self):
                    state.restore_(self, local_metadata[state.ARCHITECTURE], lambda name: prefix + name in state_dict)
            except ValueError as error:
                error_msgs.append(str(error))
        try:
            known = state.restore_maps_(self, state_dict, prefix)
        except (TypeError, ValueError) as error:
            error_msgs.append(str(error))
        else:
            unexpected_keys[:] = [name for name in unexpected_keys if name not in known]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """``nn.Module.load_state_dict``, all or nothing.

        A state that comes from `state_dict`, or such a one through ``torch.save``, brings along which functions symbolic edges have, which
        columns of the input are used and whether symbolic edges are enabled. Maps of units that the network applies itself are those of the
        state, or none if that has its parameters without one. An edge that has a function of the right name keeps it,
        others are looked up in ``SYMBOLIC_LIB``. A plain dictionary of tensors changes nothing but parameters.

        Args:
            state_dict: of a network with the same shapes; see `from_state_dict` for those that have none of the same shape yet.
            strict, assign: as there.

        Raises:
            RuntimeError: if the shapes or names of tensors, the arities or the base function differ, or a symbolic function is not known;
                the network is as it was then.
        """
        try:
            with state.unchanged_on_error(self):
                self.forget_pass()
                return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            if state.same_shapes(self, state_dict):
                raise
            name = type(self).__name__
            raise RuntimeError(f"{error}\n\tA network of the state's own shape is made by {name}.from_state_dict(state).") from error

    @classmethod
    def from_state_dict(
        cls: type[Self], state_dict: Mapping[str, Tensor], funs_name: state.SymbolicNames | None = None, **settings: Any
    ) -> Self:
        """The network that a state dictionary comes from, whatever has been pruned, refined or made symbolic.

        With what `state_dict` tells beside the tensors it is the same network bit for bit, with its settings, symbolic functions, input
        columns, dtype and parameters that are not trained. Where that is missing, as in dictionaries that pykan or safetensors wrote, the
        shapes tell width, grid and degree, and all else is as by default or as given.

        Args:
            state_dict: of a network, perhaps through ``torch.save`` and ``torch.load(weights_only=True)``. It is copied.
            funs_name: for every layer, nested ``[out][in]``, names of the edges' symbolic functions or functions of a tensor, ``'0'``
                where there is none. Needed only if they are not told, or not registered with `add_symbolic`.
            settings: arguments of the constructor in place of those found, such as ``device=`` or ``base_fun=``; ``mult_arity=`` where
                neither the dictionary nor the shapes tell it.

        Raises:
            ValueError: if this is no state of a network, shapes and settings contradict each other, or something needed is not told.

        Example:
            >>> from kan.network.network import Network
            >>> state = Network([2, [1, 1], 1], grid=4).state_dict()
            >>> Network.from_state_dict(state).width
            [[2, 0], [1, 1], [1, 0]]
        """
        return state.build(cls, state_dict, funs_name, settings)
