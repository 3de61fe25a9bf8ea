"""Probes: outputs that hooks collected in one measured step -> one device tensor -> the frame that each probe fills."""

from degradation.probes.branches import BRANCHES
from degradation.probes.gradients import GRADIENTS
from degradation.probes.hooks import Taps
from degradation.probes.probe import Measurement, Probe
from degradation.probes.readings import Readings
from degradation.probes.responses import RESPONSES

PROBE_REGISTRY: dict[str, Probe] = {"gradients": GRADIENTS, "responses": RESPONSES, "branches": BRANCHES}

__all__ = ["GRADIENTS", "PROBE_REGISTRY", "RESPONSES", "Measurement", "Probe", "Readings", "Taps"]
