"""Record gradients and responses of any PyTorch model in its own training loop."""

from collections.abc import Iterable, Sequence

import torch
from torch.nn import Module

from degradation.errors import UserError
from degradation.networks.layout import unwrapped
from degradation.recording.findings import Finding
from degradation.recording.recorder import Recorder

__all__ = ["Finding", "Recorder", "record"]


def record(
    model: Module,
    every: int = 10,
    *,
    gradients: bool = True,
    responses: bool = True,
    layers: str | Sequence[str] | None = None,
) -> Recorder:
    """Record what happens inside a network while your own loop trains it.

    Put ``with degradation.record(model) as rec:`` around an ordinary PyTorch loop. A step is one forward and backward.

    Parameters
    ----------
    model : torch.nn.Module
        Any network.
    every : int
        Steps 0, every, 2 every, ... are measured. At most ``LIMIT`` measured steps are kept: then every second one is
        dropped, and ``every`` doubles.
    gradients, responses : bool
        Which frames are recorded.
    layers : str or sequence of str, optional
        Globs of layer names, such as ``"layer1.*"``. By default all convolutions (each with the norm after it, whose
        output is its response), linear layers (also the transposed ones of GPT-2), the weights of LSTM, GRU and RNN,
        and other norms. ``summary`` lists other modules with weights.

    Returns
    -------
    Recorder
        ``frame("gradients")`` and ``frame("responses")`` are pandas frames with one row for each measured step and
        layer. ``summary()`` lists what vanishes, explodes, is dead or not finite, and what to try; ``findings`` is the
        same as data. ``plot()`` draws, ``to_tensorboard(folder)`` writes.

    Raises
    ------
    UserError
        No module, ``every`` below 1, nothing to record, a glob that matches no layer, a scripted network, weights that
        are sharded or have no shape yet; or a recording that already runs is entered.

    Notes
    -----
    A layer that is used several times in a step is pooled over its uses.

    The network may change within the block: a layer that is replaced or unfrozen is followed by its name, a removed
    layer is not measured any more, a new one is listed by ``summary``. A value that cannot be read is a line of
    ``summary`` and a missing number; a recording never ends the loop around it.

    Between measured steps the gradients of all weights are checked (of large ones a row and a column): after one that
    is not finite the next step is measured too. Every backward that reaches the network is a step: if it trains another
    network, as a generator's through its discriminator, put it inside ``with rec.paused():``.

    Gradients are those of the step's own loss in this process, whatever ``.grad`` has accumulated: without the factor
    of a GradScaler, and under DistributedDataParallel before the average over processes. ``update_norm`` is how far a
    weight moved until the next backward, missing if none did. A compiled network runs uncompiled on measured steps,
    so that no graph breaks. Activation checkpointing needs ``use_reentrant=False``; weights sharded by ``fully_shard``
    are not supported. At the end, also by an exception, every hook is removed; weights, buffers, modes and random state
    are never written.

    Examples
    --------
    >>> import degradation, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> with degradation.record(model, every=1) as rec:
    ...     for _ in range(2):
    ...         model(torch.randn(16, 4)).square().mean().backward()
    ...         model.zero_grad()
    >>> rec.frame("gradients")[["step", "name"]].values.tolist()
    [[0, '0'], [0, '2'], [1, '0'], [1, '2']]
    """
    if not isinstance(model, Module):
        raise UserError(f"record: expected a PyTorch module, not {_shown(model)}")
    if isinstance(unwrapped(model), torch.jit.ScriptModule):
        raise UserError(
            "record: a scripted or traced network has no layers that can be listened to: record the one it was made of"
        )
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise UserError(f"record: expected every to be a whole number of at least 1, not every={_shown(every)}")
    if not (gradients or responses):
        raise UserError("record: gradients=False and responses=False leave nothing to record")
    return Recorder(model, every, gradients=gradients, responses=responses, globs=_globs(layers))


def _globs(layers: str | Sequence[str] | None) -> tuple[str, ...]:
    if layers is None:
        return ()
    globs = (layers,) if isinstance(layers, str) else tuple(layers) if isinstance(layers, Iterable) else ()
    if not globs or not all(isinstance(glob, str) for glob in globs):
        raise UserError(f"record: expected layers to be a name or glob or several, not layers={_shown(layers)}")
    return globs


def _shown(value: object) -> str:
    """A value as a message shows it: short, in one line."""
    kind = type(value).__name__
    text = " ".join(repr(value).split())
    return f"{text} ({kind})" if len(text) <= 40 else f"a {kind}"
