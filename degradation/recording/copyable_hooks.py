"""Hooks on a module -> hooks that its copies do not have: a model can be saved and scripted inside a recording."""

from functools import partial, wraps
from typing import Any

import torch
from torch.nn import Module

from degradation.recording.patches import Patch

STATE = "__getstate__"


class Hook(partial[None]):
    """A forward hook of a recording."""


class Hooked:
    """The named hooks of a recording on modules, until ``remove``.

    ``torch.save`` and ``copy.deepcopy`` do not copy them: each module has its own ``__getstate__`` for that time.
    A hook cannot do this itself: its replacement in the copy would be called as well. ``torch.jit.script`` compiles
    the hooks of a module; they are removed while it runs.
    """

    def __init__(self) -> None:
        self._placed: dict[str | None, tuple[Module, Any]] = {}
        _live.append(self)
        _SCRIPT.begin()

    def add(self, name: str | None, module: Module, hook: Hook) -> None:
        """Register the hook on the module, instead of an earlier one of that name."""
        self._take(name)
        self._placed[name] = (module, module.register_forward_hook(hook))
        vars(module)[STATE] = partial(_state, module)

    def remove(self) -> None:
        """Remove all hooks; a module with hooks of another recording keeps its ``__getstate__``."""
        for name in list(self._placed):
            self._take(name)
        _live.remove(self)
        _SCRIPT.end()

    def away(self) -> dict[Module, dict[int, Any]]:
        """The hooks of all recordings on these modules, after removing them."""
        removed: dict[Module, dict[int, Any]] = {}
        for module, _ in self._placed.values():
            removed[module] = {key: module._forward_hooks.pop(key) for key in _ours(module)}
            vars(module).pop(STATE, None)
        return {module: hooks for module, hooks in removed.items() if hooks}

    def _take(self, name: str | None) -> None:
        if name not in self._placed:
            return
        module, handle = self._placed.pop(name)
        handle.remove()
        if not _ours(module):
            vars(module).pop(STATE, None)


_live: list[Hooked] = []


def _without_hooks(original: Any) -> Any:
    @wraps(original)
    def call(*values: Any, **named: Any) -> Any:
        removed = [pair for hooked in _live for pair in hooked.away().items()]
        try:
            return original(*values, **named)
        finally:
            for module, hooks in removed:
                module._forward_hooks.update(hooks)
                vars(module)[STATE] = partial(_state, module)

    return call


_SCRIPT = Patch(torch.jit._recursive, "create_script_module", _without_hooks)


def _ours(module: Module) -> list[int]:
    return [key for key, hook in module._forward_hooks.items() if isinstance(hook, Hook)]


def _state(module: Module) -> Any:
    """The state that the class copies, without the hooks of recordings."""
    state = type(module).__getstate__(module)  # type: ignore[no-untyped-call]
    if not isinstance(state, dict):
        return state
    state = {name: value for name, value in state.items() if name != STATE}
    if "_forward_hooks" in state:
        state["_forward_hooks"] = state["_forward_hooks"].copy()
        for key in _ours(module):
            state["_forward_hooks"].pop(key, None)
    return state
