"""A subject with drawn weights and used batch-norm statistics, for the estimators' tests."""

import torch

from degradation import networks
from degradation.experiments.trained_run import Subject
from degradation.networks.layout import norms
from degradation.spec import Synthetic
from tests.made import CPU, images, run_spec


@torch.no_grad()
def set_statistics(network, batches):
    """Set the running statistics to the mean of those of the batches; the mode stays."""
    training = network.training
    network.train()
    for norm in norms(network):
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    for inputs, _ in batches:
        network(inputs)
    network.train(training)


def subject(network="residual", depth=8, *, shortcut=None, size=8):
    run = run_spec(network, depth)
    run = run.model_copy(update={"dataset": Synthetic(examples=48, test_examples=20, size=size)})
    run = run.model_copy(update={"shortcut": shortcut}) if shortcut else run
    made = networks.for_run(run)
    torch.manual_seed(0)
    set_statistics(made, [(torch.randn(16, 3, size, size), None) for _ in range(4)])
    return Subject(run=run, images=images(size=size), weights=made.state_dict(), environment=CPU)
