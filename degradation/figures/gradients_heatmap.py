"""The gradients frame -> log10 of each weight's gradient norm, layer by step, one panel a network."""

import pandas as pd
from matplotlib.figure import Figure

from degradation.figures import style
from degradation.figures.gradient_flow import MEANING
from degradation.figures.heatmap import Quantity, heatmap
from degradation.study.results import Results

GRADIENTS = Quantity(
    figure="gradients-heatmap",
    frame="gradients",
    column="weight_grad_norm",
    logarithmic=True,
    title="Gradient norm of each layer's weight over training",
    unit="log10 of the gradient's L2 norm",
    colours="inferno",
    notes=(MEANING,),
)


@style.in_style
def gradients_heatmap(results: Results) -> tuple[Figure, pd.DataFrame]:
    """log10 of the weight's gradient norm. Raises UseError without the probe ``gradients``."""
    return heatmap(results, GRADIENTS)
