"""A device that is not the CPU, on any machine: what a GPU refuses, it refuses.

Its tensors live in the memory of the CPU and compute there. But a tensor of the CPU beside them in one operation, a
generator of the CPU, or reading them as a numpy array is an error, as on a GPU: a training that works on it has every
tensor where it belongs. It says nothing about float16, compiling or speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "elsewhere"
CPU = torch.device("cpu")
MOVES = {"aten::_to_copy", "aten::copy_"}
# As on a GPU: an index of the CPU is moved by the operation itself.
INDEXES = ("aten::index", "aten::_index_put", "aten::_unsafe_index", "aten::_unsafe_masked_index")
IS_POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")  # not in older versions of torch
_registered: list[torch.library.Library] = []


class Elsewhere(Tensor):
    """A tensor that says it is on the device; ``here`` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=f"{NAME}:0",
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return compute(op, args, kwargs or {})

    def tolist(self) -> Any:
        return self.here.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME} tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __format__(self, form: str) -> str:
        return format(self.here, form)

    def __repr__(self) -> str:
        return f"{NAME}({self.here!r})"

    def __reduce_ex__(self, protocol: int) -> Any:
        """Files hold values of the CPU, as files that are read with ``map_location="cpu"``."""
        values = self.here.detach().clone()
        return values.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]


def compute(op: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Carry out an operation of which a tensor, or the result, is on the device."""
    name, given = op.name(), [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, Elsewhere)]
    stray = [tensor for tensor in given if not isinstance(tensor, Elsewhere) and tensor.ndim > 0]
    if there and stray and name not in MOVES and not name.startswith(INDEXES):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in stray)
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} got {shapes} on the CPU.")
    goes_there = bool(there)
    if kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": CPU}
    if goes_there and kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'.")
    values, options = tree_map_only(Elsewhere, lambda tensor: tensor.here, (args, kwargs))
    found = op(*values, **options)
    if name == "aten::copy_":
        return args[0]
    if not goes_there:
        return found
    same = {id(tensor.here): tensor for tensor in there}  # an operation in place returns what it was given
    return tree_map_only(Tensor, lambda tensor: same[id(tensor)] if id(tensor) in same else Elsewhere(tensor), found)


class _Module:
    """What torch asks of ``torch.elsewhere``."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are those of the CPU."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """Nothing is drawn there."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def use(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return the device; modules can be moved to it until the test ends.

    It must come before the first gradient of the process, and stays as long as the process.
    """
    if not _registered:
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        library = torch.library.Library("_", "IMPL")
        library.fallback(lambda op, *args, **kwargs: compute(op, args, kwargs), "PrivateUse1")
        _registered.append(library)
    monkeypatch.setenv("nnUNet_compile", "f")
    monkeypatch.setattr(torch, "tensor", _made_here(torch.tensor))
    monkeypatch.setattr(torch, "load", _read_here(torch.load))
    monkeypatch.setattr(torch.nn.Module, "to", _unless_there(torch.nn.Module.to))
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    return torch.device(NAME)


def _made_here(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return ``torch.tensor`` by way of the CPU: on its own it does not reach a device that is written in Python."""

    def tensor(*args: Any, **options: Any) -> Tensor:
        device = options.pop("device", None)
        made = make(*args, **options)
        return made if device is None else made.to(device)

    return tensor


def _read_here(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``torch.load`` that reads on the CPU, and moves what it has read."""

    def read(*args: Any, map_location: Any = None, **options: Any) -> Any:
        there = isinstance(map_location, torch.device) and map_location.type == NAME
        found = load(*args, map_location=CPU if there else map_location, **options)
        return tree_map_only(Tensor, lambda tensor: tensor.to(map_location), found) if there else found

    return read


def _unless_there(move: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    """Return ``Module.to`` that leaves alone what is there: weights in use cannot be exchanged for themselves."""

    def to(module: torch.nn.Module, *args: Any, **options: Any) -> torch.nn.Module:
        held = [*module.parameters(), *module.buffers()]
        is_move = len(args) == 1 and not options and not isinstance(args[0], (Tensor, torch.dtype))
        if is_move and all(tensor.device.type == torch.device(args[0]).type for tensor in held):
            return module
        return move(module, *args, **options)

    return to
