"""Registers a loader for `accelerator.save_state`, for as long as the loader exists.

An accelerator keeps all objects that were registered or prepared with it. So loaders that were
replaced by others would still be saved, and their workers would stay alive. Accelerate has no
function to remove an object; this module removes it from two lists of the accelerator.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]

from seta.engine.state.formats import number_of
from seta.torch.loop import Loop


class Registered:
    """A weak reference to a loader, for `accelerator.save_state` and `load_state`.

    Args:
        accelerator: Registers it, for as long as the loader is there.
        loader: The loader.
        changed: For its `load_state_dict`.
    """

    def __init__(self, accelerator: Accelerator, loader: Loop, changed: Iterable[str]) -> None:
        self._loader, self._changed = weakref.ref(loader), tuple(changed)
        accelerator.register_for_checkpointing(self)
        weakref.finalize(loader, _forget, weakref.ref(accelerator), self)

    @property
    def loader(self) -> Loop:
        """The loader, which is there as long as this is registered."""
        loader = self._loader()
        if loader is None:
            raise RuntimeError("the loader is gone, and is no longer saved with the accelerator")
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Returns the loader's state."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Restores the loader.

        Raises:
            ValueError: It is the state of another object, or does not fit the loader.
        """
        if number_of(state, "loader") is None:
            raise ValueError(
                "the checkpoint has the state of another object in this loader's place, with "
                f"{sorted(state) if isinstance(state, dict) else type(state).__name__}: register "
                "objects with the accelerator in the same order as in the run that was saved"
            )
        self.loader.load_state_dict(state, changed=self._changed)


def take_out(objects: list[Any], gone: Any) -> None:
    """Takes an object out of a list of an accelerator's, if it is there."""
    objects[:] = [each for each in objects if each is not gone]


def _forget(accelerator: weakref.ref[Accelerator], gone: Registered) -> None:
    held = accelerator()
    if held is not None:
        take_out(held._custom_objects, gone)
