"""The steps of the user's loop -> frames: selects the measured steps and keeps their numbers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd
from torch import Tensor
from torch.nn import Module

from degradation.errors import UserError
from degradation.frames import schemas
from degradation.networks.layout import Layer, in_forward_order, inferred, uncovered, unwrapped
from degradation.probes import GRADIENTS, RESPONSES
from degradation.recording import buffer, eager
from degradation.recording.arrivals import Arrivals
from degradation.recording.backward_hooks import BackwardHooks
from degradation.recording.buffer import StepBuffer
from degradation.recording.course import LoopInfo
from degradation.recording.findings import Finding
from degradation.recording.following import Following, weight_at
from degradation.recording.grad_scaler import LossScale
from degradation.recording.module_hooks import Listener
from degradation.recording.nonfinite import NonfiniteMonitor, Place, first_place
from degradation.recording.nonfinite_log import Log
from degradation.recording.notebook_view import NotebookView
from degradation.recording.notes import Notes, several, why_unheard
from degradation.recording.summary import SummaryInput, findings_of, summary
from degradation.recording.tensorboard import write_new
from degradation.recording.updates import Updates

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recorder(NotebookView):
    """Result of ``degradation.record``: a context manager, and afterwards its measurements."""

    def __init__(
        self, network: Module, every: int, *, gradients: bool, responses: bool, globs: tuple[str, ...]
    ) -> None:
        self.every, self._requested_every, self.step = every, every, 0
        self._probes = (*((GRADIENTS,) if gradients else ()), *((RESPONSES,) if responses else ()))
        self._network = unwrapped(network)
        self._layout, self._globs = inferred(self._network, globs), globs
        self._uncovered = self._not_covered()
        self._weighted = [layer.name for layer in self._with_weights()]
        self._buffer: StepBuffer | None = None
        self._listener: Listener | None = None
        self._inside: ExitStack | None = None
        """The open hooks of the block; None before the first block."""
        self._notes, self._log, self._arrivals = Notes(), Log(), Arrivals()
        self._monitor = NonfiniteMonitor(self._enter)
        self._backwards = BackwardHooks(self._network, self._begun, self._reached, self._ended, self._notes)
        self._scales, self._updates = LossScale(self._notes), Updates(self._network, self._notes)
        self._alarmed = self._reentrant = self._entered = False
        self._again: int | None = None
        self._written: dict[Path, set[int]] = {}

    # the block

    def __enter__(self) -> Self:
        if self._entered:
            raise UserError("record: this recording is already running: enter it once, or make another one")
        with ExitStack() as inside:
            inside.enter_context(self._backwards)
            inside.enter_context(Following(self._network, self._follow, self._backwards.add, self._notes))
            inside.enter_context(self._scales)
            self._listen_if_due()
            self._inside = inside.pop_all()
        self._entered = True
        return self

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside the block no forward is measured and no backward is a step: for the training of another network.

        A GAN with a recording of its discriminator pauses it around the generator's step.
        """
        listening = [part for part in (self._backwards, self._listener, self._scales) if part is not None]
        before = [part.paused for part in listening]
        for part in listening:
            part.paused = True
        try:
            yield
        finally:
            for part, was in zip(listening, before, strict=True):
                part.paused = was

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish_step(moved=failure is None, ends=True)
            self._catch_up()
            self._uncovered = self._not_covered()
            if unseen := self._backwards.unseen():
                self._notes.add(f"steps of {several(unseen)} alone are not counted: they were added unseen")
        except Exception as error:
            self._notes.failed("the end", error)
        finally:
            self._entered = False
            self._stop_listening()
            if self._inside is not None:
                self._inside.close()

    def _catch_up(self) -> None:
        """Log results still on the device, and whether a GradScaler skipped the last step; not after the block."""
        if self._entered:
            self._monitor.look(wait=True)
            self._log.update_scale(self._scales.factor())

    def _listen_if_due(self) -> None:
        """Hook the layers if the next step is measured, and disable compiled graphs, which would bypass the hooks."""
        if self.step % self.every and not self._alarmed:
            return
        self._alarmed = False
        try:
            eager.begin()
        except RuntimeError:  # torch's refusal within a compiled region
            self._notes.add(eager.AROUND)
            return
        kinds = {"copies": GRADIENTS in self._probes, "responses": RESPONSES in self._probes}
        try:
            self._listener = Listener(self._network, self._layout, self._backwards.look, self._came_again, **kinds)
        except Exception as error:
            eager.end()
            self._notes.failed("the layers", error)

    def _stop_listening(self) -> Listener | None:
        """The listener of this step, if any, with its hooks removed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.close()
            finally:
                eager.end()
        return listener

    def _came_again(self, backward: int) -> None:
        self._again = backward

    def _follow(self, modules: dict[str, Module]) -> None:
        if self._listener is not None:
            self._listener.update_modules(modules)

    def _begun(self) -> None:
        """Start of a backward: the update before it is done, and its weights are in place."""
        self._finish_step()
        self._arrivals.begun()
        if self._listener is not None:
            self._listener.weights.look()

    def _reached(self, weight: Tensor, gradient: Tensor) -> None:
        self._arrivals.reached(weight, measured=self._listener is not None)
        if self._listener is not None:
            self._listener.reached(weight, gradient)

    def _ended(self, backward: int, numbers: list[Tensor]) -> None:
        """End of a backward: the measurements are kept, and the next step starts."""
        try:
            self._over(self._stop_listening(), backward, numbers)
        except Exception as error:
            self._notes.failed("the step", error)
        self.step = self._notes.step = self.step + 1
        self._listen_if_due()

    def _over(self, listener: Listener | None, backward: int, numbers: list[Tensor]) -> None:
        place = None
        try:
            place = None if listener is None else self._keep(listener, backward)
        except Exception as error:
            self._notes.failed("the layers", error)
        self._monitor.add(self.step, numbers, self._scales.on_device(), self._scales.finite())
        if listener is not None:
            self._monitor.look(wait=True)
            # The step after a broken one shows whether it stays broken; if it does, not every step is measured.
            broken = self._log.measured(self.step, place)
            self._alarmed = broken and (self.step % self.every == 0 or self._log.spans[-1].first == self.step)

    def _enter(self, step: int, finite: bool, factor: float, loss: bool | None) -> None:
        """Whether the gradients of a step were finite; if that changes, the next step is measured."""
        if self._log.add(step, finite, factor, loss):
            self._alarmed = True

    def _keep(self, listener: Listener, backward: int) -> Place | None:
        """Keep the measurements until the weights have moved; returns the first non-finite value, if any."""
        step_stats = listener.step_stats(backward, self._scales.factor())
        before = [layer.name for layer in listener.layout.layers]
        if self._buffer is None:
            # The layers are numbered as the first measured forward called them.
            layers = self._layout.layers if self._globs else listener.sure()
            self._layout = in_forward_order(replace(self._layout, layers=layers), listener.maps)
            self._buffer = StepBuffer(self._probes, self._layout)
        layers = self._layout.layers
        step_stats = step_stats.take([before.index(layer.name) for layer in layers])
        if not step_stats.used.any() or listener.repeated:
            self._reentrant = self._reentrant or listener.repeated
            again = self._again == backward
            self._notes.add(why_unheard(reentrant=self._reentrant, again=again, empty=listener.empty))
        empty = listener.empty and not step_stats.used.any()
        self._buffer.begin(self.step, listener.examples, step_stats, listener.idle, empty=empty)
        self._updates.hold(self.step, step_stats, layers, listener.weights)
        self._note_unread(listener)
        self._arrivals.expect(listener)
        entry = None if listener.input_finite else listener.first
        return first_place(self.step, [layer.name for layer in layers], step_stats, entry)

    def _note_unread(self, listener: Listener) -> None:
        listener.unread.report(self._notes)
        removed = [name for name, weight in listener.weights.of.items() if weight is None and name in self._weighted]
        if removed:
            self._notes.add("no weight is left in {}: the layer was removed or changed", removed)

    def _finish_step(self, moved: bool = True, ends: bool = False) -> None:
        """Complete the last measured step with its update: how far the weights have moved since."""
        finished = self._updates.finish_step(moved=moved, ends=ends)
        if finished is not None and self._buffer is not None:
            self.every = self._buffer.add(*finished, self.every)

    def _with_weights(self) -> list[Layer]:
        return [layer for layer in self._layout.layers if weight_at(self._network, layer) is not None]

    def _not_covered(self) -> dict[str, str]:
        """Modules with trained weights that are no layer of this recording; none if layers were chosen."""
        layers = tuple(self._with_weights())
        return {} if self._globs else uncovered(self._network, replace(self._layout, layers=layers))

    # what was recorded

    @property
    def notes(self) -> list[str]:
        """Failed measurements, a line each."""
        return self._notes.lines() + self._updates.lines() + buffer.thinned(self._requested_every, self.every)

    @property
    def first_nonfinite(self) -> Place | None:
        """The first non-finite value, if a measured step saw it and a GradScaler's factor does not explain it."""
        self._catch_up()
        return next((span.place for span in self._log.failures if span.place is not None), None)

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The frames that were recorded, by name; a measured step is in them once the next backward has started."""
        if self._buffer is None:
            return {probe.frame: schemas.frame(probe.frame, []) for probe in self._probes}
        return self._buffer.frames

    def frame(self, name: str) -> pd.DataFrame:
        """Return what was recorded.

        Parameters
        ----------
        name : str
            ``gradients`` or ``responses``.

        Returns
        -------
        pandas.DataFrame
            One row for each measured step and layer, with the columns of a study's frame of that name.

        Raises
        ------
        UserError
            The frame was not recorded.
        """
        frames = self.frames
        if name not in frames:
            raise UserError(f"no frame {name!r} was recorded: expected {' or '.join(frames)}")
        return frames[name]

    @property
    def findings(self) -> list[Finding]:
        """Non-finite values, and findings on the loop, on the last measured step and on earlier ones."""
        return findings_of(self._everything())

    def summary(self) -> str:
        """Describe the findings, and the values that could not be measured.

        Returns
        -------
        str
            Several lines, the most important one first. The criteria and their thresholds are in
            ``degradation.recording.diagnosis`` and ``course``.
        """
        return summary(self._everything())

    def _everything(self) -> SummaryInput:
        self._catch_up()
        if self._entered:
            self._uncovered = self._not_covered()
        course = LoopInfo(
            cut=self._arrivals.cut,
            unused=self._buffer.idle if self._buffer else (),
            unmoved=self._updates.unmoved,
            piled=self._arrivals.piled,
        )
        return SummaryInput(
            entered=self._inside is not None,
            steps=self.step,
            every=self.every,
            profiles=self._buffer.profiles if self._buffer else {},
            log=self._log,
            notes=self.notes,
            uncovered=self._uncovered,
            course=course,
        )

    def plot(self) -> "Figure":
        """Draw gradient norms, standard deviations of responses and shares at most zero by layer.

        Returns
        -------
        matplotlib.figure.Figure
            At up to four of the measured steps.
        """
        from degradation.figures.recorded import recorded

        count = 0 if self._buffer is None else len(self._buffer.steps)
        title = f"{type(self._network).__name__}: {count:,} measured of {self.step:,} steps"
        return recorded(self.frames, title)[0]

    def to_tensorboard(self, folder: str | Path) -> None:
        """Write every number as a TensorBoard scalar ``frame/column/layer``.

        A step that this recording has written there before is not written again.

        Parameters
        ----------
        folder : str or Path
            Where TensorBoard looks.

        Raises
        ------
        UserError
            TensorBoard is not installed, or nothing was recorded.
        """
        steps = set() if self._buffer is None else set(self._buffer.steps)
        write_new(self.frames, steps, self._written.setdefault(Path(folder).resolve(), set()), folder)
