"""Anybody's network in its own loop -> the frames, the words and the figure of this study."""

from collections.abc import Sequence

from torch.nn import Module

from degradation.recording.recorder import Recorder

__all__ = ["Recorder", "record"]


def record(
    model: Module,
    every: int = 10,
    *,
    gradients: bool = True,
    responses: bool = True,
    layers: str | Sequence[str] | None = None,
) -> Recorder:
    """Record what happens inside a network while your own loop trains it.

    ``with degradation.record(model, every=10) as rec:`` around an ordinary PyTorch loop; a step is one forward and
    backward, and steps 0, every, 2 every, ... are measured. Then ``rec.frame("gradients")`` and
    ``rec.frame("responses")`` have the columns of ``degradation.frames``, ``rec.summary()`` says in words which layer
    vanishes, explodes, is dead or first went non-finite, ``rec.plot()`` draws, ``rec.to_tensorboard(folder)`` writes.

    The layers are the convolutions (each with the norm behind it, whose output is its response), linear layers and
    other norms, or those whose names match the globs in ``layers``. A layer used several times in a step is pooled
    over its uses. At most ``LIMIT`` measured steps are kept, a few numbers for each layer: on reaching them every
    second one is dropped and ``every`` doubles.

    Gradients are those of the step's own loss in this process, whatever ``.grad`` has accumulated: without the factor
    of a GradScaler, and under DistributedDataParallel before the average over processes. A compiled network runs
    uncompiled on measured steps, so that no graph breaks. Activation checkpointing needs ``use_reentrant=False``.
    At the end, also by an exception, every hook is removed; weights, buffers, modes and random state are never written.

    Raises UseError for an ``every`` below 1, nothing to record, or a glob that matches no layer.
    """
    globs = (layers,) if isinstance(layers, str) else tuple(layers or ())
    return Recorder(model, every, gradients=gradients, responses=responses, globs=globs)
