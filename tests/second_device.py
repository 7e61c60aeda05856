"""A second device for machines that have none: tensors that refuse to meet those of the CPU.

Inside :func:`second_device` torch sees one ``cuda``. What is put there stays in the CPU's memory
under the type :class:`Far`, says that its device is ``cuda:0``, and like a GPU's tensors neither
mixes with others (but for numbers) nor turns into numpy. So code that forgets to move a tensor
fails here as it would there. It shows nothing of a GPU's arithmetic, memory or speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "cuda:0"
LIKE = {
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "as_tensor", "tensor"),
}
"""Makers of tensors that take a tensor for its shape, and may be told another device."""
ANYWHERE = {"copy_", "__set__", "_has_compatible_shallow_copy_type"}
"""What a GPU's tensor and a CPU's may do with each other."""
NO_TENSORS = {"item", "tolist", "size", "__len__", "backward"}


class Far(Tensor):
    """A tensor of the second device."""


@contextmanager
def second_device() -> Iterator[str]:
    """The name of a device on which tensors are :class:`Far`, as long as the block lasts."""
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        places = patch("patching.backward.get_gradient_edge", _place)
        with patch("torch.cuda.device_count", lambda: 1), places, _Mode():
            yield NAME
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _place(tensor: Tensor) -> GradientEdge:
    """A tensor's place in its graph, found without a step that this module would add to it."""
    with torch._C.DisableTorchFunction():
        return get_gradient_edge(tensor)


class _Mode(TorchFunctionMode):
    """Sees every call of torch, and keeps account of which device its tensors are on."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        given = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        name, far = func.__name__, any(isinstance(tensor, Far) for tensor in tensors)
        if func == Tensor.device.__get__:
            return torch.device(NAME) if far else func(*args, **given)
        if far and name in ("numpy", "__array__"):
            raise TypeError("can't convert a tensor of the second device to numpy; use .cpu()")
        if name == "__deepcopy__" and far:
            return _copied(*args)
        if name == "cpu":
            return _typed(_plainly(func, args, given), False)
        if name == "to":
            return _moved(func, args, given, far)
        if given.get("device") is not None and (not tensors or name in LIKE):
            return _made(func, args, given)
        if far:
            _check_apart(name, args, tensors)
        return _account(_plainly(func, args, given), far, tensors, name)


def _plainly(func: Callable, args: tuple, given: dict) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **given)


def _typed(value: Any, far: bool) -> Any:
    """The value with all of its tensors on one of the devices."""
    want = Far if far else Tensor

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, Far) == far:
            return leaf
        return leaf.as_subclass(want)

    with torch._C.DisableTorchFunctionSubclass():
        return tree_map(one, value)


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf of its own, and a parameter if it was one."""
    if id(tensor) not in memo:
        copied = _typed(_plainly(Tensor.clone, (tensor.detach(),), {}), True)
        copied.requires_grad_(tensor.requires_grad)
        if getattr(tensor, "_is_param", False):
            copied._is_param = True
        memo[id(tensor)] = copied
    return memo[id(tensor)]


def _is_second(device: Any) -> bool:
    return torch.device(device).type == torch.device(NAME).type


def _moved(func: Callable, args: tuple, given: dict, far: bool) -> Any:
    """`tensor.to(...)`, which may name a device, or a tensor whose device is meant."""
    like = [leaf for leaf in args[1:] if isinstance(leaf, Tensor)]
    named = [leaf for leaf in args[1:] if isinstance(leaf, str | torch.device)]
    named += [given["device"]] if given.get("device") is not None else []
    target = isinstance(args[0], Far)
    if like or named:
        target = isinstance(like[0], Far) if like else _is_second(named[0])
    rest = ["cpu" if isinstance(leaf, str | torch.device) else leaf for leaf in args[1:]]
    if "device" in given:
        given["device"] = "cpu"
    return _typed(_plainly(func, (args[0], *rest), given), target)


def _made(func: Callable, args: tuple, given: dict) -> Any:
    """A new tensor on the device it names."""
    second = _is_second(given.pop("device"))
    if second and given.get("generator") is not None:
        raise RuntimeError("a generator of the CPU cannot fill a tensor of the second device")
    return _typed(_plainly(func, args, {**given, "device": "cpu"}), second)


def _check_apart(name: str, args: tuple, tensors: list[Tensor]) -> None:
    """Refuse tensors of both devices, but for numbers and for places to read or write at."""
    near = [tensor for tensor in tensors if not isinstance(tensor, Far) and tensor.dim()]
    if not near or name in ANYWHERE:
        return
    if name in ("__getitem__", "__setitem__") and isinstance(args[0], Far):
        written = [part for part in args[2:] if isinstance(part, Tensor) and part.dim()]
        if all(isinstance(part, Far) for part in written):
            return
    shapes = ", ".join(f"{type(tensor).__name__} {tuple(tensor.shape)}" for tensor in tensors)
    raise RuntimeError(f"{name}: tensors are on two devices: {shapes}")


def _account(value: Any, far: bool, tensors: list[Tensor], name: str) -> Any:
    """What comes of tensors of a device is there too; what was given stays the same object."""
    if name in NO_TENSORS:
        return value
    known = {id(tensor) for tensor in tensors}
    return tree_map(
        lambda leaf: leaf if id(leaf) in known or _is_parameter(leaf) else _typed(leaf, far), value
    )


def _is_parameter(leaf: Any) -> bool:
    return isinstance(leaf, torch.nn.Parameter)
