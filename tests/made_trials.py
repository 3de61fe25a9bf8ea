"""Subjects whose branches may be zero, and all rows of an experiment on one, for the tests of the experiments."""

import pandas as pd
import torch

from degradation import networks
from degradation.experiments import experiment_named
from degradation.experiments.experiment import Settings
from degradation.experiments.trained_run import Subject
from tests.made import CPU, images, run_spec

SETTINGS = Settings(examples=20, draws=2, points=3)


def subject(network="residual", depth=14, *, identities=False, norm="batch", shortcut=None):
    """A subject with drawn weights and used batch-norm statistics; ``identities``: every branch gives zero."""
    run = run_spec(network, depth).model_copy(update={"norm": norm})
    run = run.model_copy(update={"shortcut": shortcut}) if shortcut else run
    made = networks.for_run(run)
    torch.manual_seed(0)
    with torch.no_grad():
        made.train()
        for _ in range(20):
            made(torch.randn(16, 3, 8, 8))
        for block in made.layout.blocks if identities else ():
            made.get_submodule(block.branch).weight.zero_()
            made.get_submodule(block.branch).bias.zero_()
    return Subject(run=run, images=images(), weights=made.state_dict(), environment=CPU)


def rows(name, of, settings=SETTINGS):
    found = experiment_named(name)
    return pd.concat([found.measure(of, settings, part) for part in found.parts(of, settings)], ignore_index=True)
