"""Hooks on a module -> hooks that its copies have not: so a whole model can be saved within a recording."""

from functools import partial
from typing import Any

from torch.nn import Module

STATE = "__getstate__"


class Hook(partial[None]):
    """A forward hook of a recording."""


class Hooked:
    """The hooks of a recording on modules, until ``remove``; ``torch.save`` and ``copy.deepcopy`` leave them out.

    What a copy takes from a module is asked of the module itself, so for that long each has an answer of its own. A
    hook could not do it: what stands in its place in the copy would be called as well.
    """

    def __init__(self) -> None:
        self._placed: list[tuple[Module, Any]] = []

    def add(self, module: Module, hook: Hook) -> None:
        """Register the hook on the module."""
        self._placed.append((module, module.register_forward_hook(hook)))
        vars(module)[STATE] = partial(_state, module)

    def remove(self) -> None:
        """Take all hooks away; a module that another recording still listens to keeps its answer."""
        for module, handle in self._placed:
            handle.remove()
            if not _ours(module):
                vars(module).pop(STATE, None)
        self._placed.clear()


def _ours(module: Module) -> list[int]:
    return [key for key, hook in module._forward_hooks.items() if isinstance(hook, Hook)]


def _state(module: Module) -> Any:
    """What the class says that a copy takes, without the hooks of recordings."""
    state = type(module).__getstate__(module)  # type: ignore[no-untyped-call]
    if not isinstance(state, dict):
        return state
    state = {name: value for name, value in state.items() if name != STATE}
    if "_forward_hooks" in state:
        state["_forward_hooks"] = state["_forward_hooks"].copy()
        for key in _ours(module):
            state["_forward_hooks"].pop(key, None)
    return state
