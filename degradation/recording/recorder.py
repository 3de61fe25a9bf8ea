"""The steps of somebody else's loop -> frames: when to listen, and what is kept of it."""

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import Module

from degradation import frames
from degradation.errors import UseError
from degradation.layout import batch_normalized, in_forward_order, inferred, unwrapped
from degradation.probes import GRADIENTS, RESPONSES, Readings
from degradation.probes.probe import norms
from degradation.recording.backwards import Backwards
from degradation.recording.listening import Heard, Listener
from degradation.recording.scaling import Scales
from degradation.recording.summary import FirstNonfinite, summary
from degradation.recording.tensorboard import write_scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 1000  # measured steps kept
UPDATE = GRADIENTS.columns.index("update_norm")


class Recorder:
    """What ``degradation.record`` returns: a context manager, and afterwards what it recorded."""

    def __init__(
        self, network: Module, every: int, *, gradients: bool, responses: bool, globs: tuple[str, ...]
    ) -> None:
        if every < 1 or not (gradients or responses):
            raise UseError(f"record: expected every of at least 1, and gradients or responses; not every={every}")
        self.every, self.step = every, 0
        self.notes: list[str] = []
        """What could not be measured as asked, a line each."""
        self.first_nonfinite: FirstNonfinite | None = None
        self._probes = (*((GRADIENTS,) if gradients else ()), *((RESPONSES,) if responses else ()))
        self._network = unwrapped(network)
        self._layout = inferred(self._network, globs)
        self._statistics = "batch"
        self._readings: Readings | None = None
        self._examples: dict[int, int] = {}
        self._listener: Listener | None = None
        self._unsettled: tuple[int, Heard, list[Tensor | None]] | None = None
        self._inside = ExitStack()
        self._scales = Scales()

    # the block

    def __enter__(self) -> Self:
        if self._listener is not None:
            raise UseError("record: this recording is running already: make another one")
        with ExitStack() as inside:
            weights = list(self._network.parameters())
            inside.enter_context(Backwards(weights, self._settle, self._ended))
            inside.enter_context(self._scales)
            self._listen_if_due()
            self._inside = inside.pop_all()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            self._settle(moved=failure is None)
        finally:
            self._stop_listening()
            self._inside.close()

    def _listen_if_due(self) -> None:
        """Hooks on the layers where the next step is to be measured, and no compiled graph to bypass them."""
        if self.step % self.every:
            return
        try:
            self._stance = torch.compiler.set_stance("force_eager")
        except RuntimeError:  # torch's refusal within a compiled region
            self._note(
                "not every step is measured: the loop is compiled around the network, and hooks "
                "would break its graph; compile the network alone"
            )
            return
        self._listener = Listener(self._network, self._layout, responses=RESPONSES in self._probes)

    def _stop_listening(self) -> Listener | None:
        """The listener of this step, if any, with its hooks removed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            self._stance.__exit__(None, None, None)
        return listener

    def _ended(self, backward: int) -> None:
        """The end of a backward: what was heard is kept, and the next step begins."""
        listener = self._stop_listening()
        if listener is not None:
            self._keep(listener, backward)
        self.step += 1
        self._listen_if_due()

    # what is kept

    def _keep(self, listener: Listener, backward: int) -> None:
        if self._readings is None:
            self._statistics = batch_normalized(self._network)
        heard = listener.heard(backward, self._scales.factor())
        if self._readings is None:
            heard = self._order(listener, heard)
        if not heard.used.any():
            self._note(f"no response was seen at step {self.step}: does the forward run in a compiled graph?")
        self._examples[self.step] = listener.examples
        weights = {layer.name: weight for layer, weight in zip(listener.layout.layers, listener.weights, strict=True)}
        kept = [
            None if weight is None or GRADIENTS not in self._probes else weight.detach().clone()
            for weight in (weights[layer.name] for layer in self._layout.layers)
        ]
        self._weights = [weights[layer.name] for layer in self._layout.layers]
        self._unsettled = (self.step, heard, kept)

    def _order(self, listener: Listener, heard: Heard) -> Heard:
        """Number the layers as the first measured forward called them, and put what was heard into that order."""
        before = [layer.name for layer in self._layout.layers]
        self._layout = in_forward_order(self._layout, listener.maps)
        self._readings = Readings(self._probes, self._layout)
        places = [before.index(layer.name) for layer in self._layout.layers]
        return heard.take(places)

    @torch.no_grad()
    def _settle(self, moved: bool = True) -> None:
        """Complete the last measured step by what its update was: how far the weights have moved since."""
        if self._unsettled is None:
            return
        step, heard, kept = self._unsettled
        self._unsettled = None
        places = [place for place, weight in enumerate(kept) if weight is not None]
        if moved and places:
            pairs = [(self._weights[place], kept[place]) for place in places]
            found = norms([now - before for now, before in pairs if now is not None and before is not None])
            heard.gradients[places, UPDATE] = found.cpu().numpy()
        self._look_for_nonfinite(step, heard)
        answering = [place for place, layer in enumerate(self._layout.layers) if layer.response is not None]
        parts = {"gradients": heard.gradients, "responses": heard.responses[answering]}
        flat = np.concatenate([parts[probe.frame].reshape(-1) for probe in self._probes])
        assert self._readings is not None
        self._readings.add(step, torch.from_numpy(flat.astype(np.float32)))
        self._bound(self._readings)

    def _look_for_nonfinite(self, step: int, heard: Heard) -> None:
        """Note the first layer that is not finite: in forward order a response, else in backward order a gradient."""
        names = [layer.name for layer in self._layout.layers]
        if self.first_nonfinite is not None:
            return
        broken = heard.used & ~np.isfinite(heard.responses).all(axis=1) & (RESPONSES in self._probes)
        if broken.any():
            self.first_nonfinite = FirstNonfinite(step=step, layer=names[int(broken.argmax())], what="response")
            return
        gradients = heard.gradients[:, GRADIENTS.columns.index("response_grad_norm")]
        broken = heard.answered & ~np.isfinite(gradients)
        if broken.any():
            last = len(names) - 1 - int(broken[::-1].argmax())
            self.first_nonfinite = FirstNonfinite(step=step, layer=names[last], what="gradient")

    def _bound(self, readings: Readings) -> None:
        if len(self._examples) < LIMIT:
            return
        self.every *= 2
        tensors = readings.tensors()
        kept = tensors["readings.steps"] % self.every == 0
        readings.restore({name: tensor[kept] for name, tensor in tensors.items()})
        self._examples = {step: count for step, count in self._examples.items() if step % self.every == 0}

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
            warnings.warn(line, stacklevel=3)

    # what was recorded

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The frames that were recorded, by name; a measured step is in them once the next backward has begun."""
        if self._readings is None:
            return {probe.frame: frames.frame(probe.frame, []) for probe in self._probes}
        steps = self._readings.tensors()["readings.steps"].tolist()
        examples = np.repeat([self._examples[step] for step in steps], len(self._layout.responding))
        constants = {"split": "train_batch", "statistics": self._statistics, "examples": examples}
        return self._readings.frames(constants)

    def frame(self, name: str) -> pd.DataFrame:
        """The frame ``gradients`` or ``responses``; UseError where it was not recorded."""
        found = self.frames
        if name not in found:
            raise UseError(f"no frame {name!r} was recorded: expected {' or '.join(found)}")
        return found[name]

    def summary(self) -> str:
        """In words: which layer vanishes, explodes, is dead, or first went non-finite."""
        return summary(self.frames, self.first_nonfinite, self.notes)

    def plot(self) -> "Figure":
        """Gradient norms and response standard deviations by layer at up to four measured steps."""
        from degradation.figures.recorded import recorded

        return recorded(self.frames)[0]

    def to_tensorboard(self, folder: str | Path) -> None:
        """Every number as a TensorBoard scalar ``frame/column/layer`` in ``folder``; UseError without TensorBoard."""
        write_scalars(self.frames, folder)
