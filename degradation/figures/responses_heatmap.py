"""The responses frame -> standard deviation of the responses, layer by step, one panel a network."""

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from degradation.figures import style
from degradation.figures.heatmap import Quantity, heatmap
from degradation.figures.responses import readout
from degradation.study.results import Results

RESPONSES = Quantity(
    figure="responses-heatmap",
    frame="responses",
    column="std",
    logarithmic=False,
    title="Standard deviation of the layer responses over training",
    unit="std of the response",
    colours="viridis",
)


@style.in_style
def responses_heatmap(results: Results) -> tuple[Figure, pd.DataFrame]:
    """Standard deviation of each layer's response. Raises UseError without the probe ``responses``."""
    return heatmap(results, replace(RESPONSES, notes=(readout(results),)))
