"""How a block is built: order of its operations, variant of its shortcut, start of its branch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from degradation.spec.fields import Frozen

Norm = Literal["batch", "none"]
Order = Literal["original", "norm-after-addition", "relu-before-addition", "relu-only", "full"]
Gate = Literal["none", "exclusive", "shortcut-only"]
Start = Literal["drawn", "zero-gamma", "skipinit", "fixup"]
StrideOn = Literal["3x3", "1x1"]

ENDS_IN_NORM: tuple[Order, ...] = ("original", "relu-before-addition", "relu-only")
"""The orders whose branch has its last norm after its last convolution, before the addition."""


class BlockSpec(Frozen):
    """Fields of a block other than its shortcut option; the defaults are He et al. 2015, the others He et al. 2016.

    The 1x1 convolution of He et al. 2016 (arXiv:1603.05027, Table 1) is shortcut option C.
    """

    order: Order = "original"
    """Figure 4 of He et al. 2016: (a) original, (b) norm after addition, (c) ReLU before addition, (d) ReLU-only
    pre-activation, (e) full pre-activation."""
    branch_factor: float = Field(default=1.0, ge=0)
    """Constant scaling (section 3.1): factor of the branch before it is added."""
    shortcut_factor: float = Field(default=1.0, ge=0)
    """Factor of the shortcut."""
    gate: Gate = "none"
    """g = sigmoid(1x1 convolution of the block's input): exclusive, g F + (1 - g) shortcut (section 3.1, after Highway
    Networks); shortcut-only, F + (1 - g) shortcut."""
    gate_bias: float = 0.0
    """Initial bias of the gate; the paper tries 0 to -10."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the shortcut's values set to zero in a training step; the others are divided by the remaining share."""
    start: Start = "drawn"
    """How a branch begins: as it is drawn; with its last gamma zero (Goyal et al. 2017, arXiv:1706.02677, section 5.1);
    times a learned number that begins at zero (SkipInit, De and Smith 2020, arXiv:2002.10444); with its last
    convolution zero, its first divided by sqrt(blocks), and a learned number that begins at one (after Fixup, Zhang et
    al. 2019, arXiv:1901.09321, section 3: its biases are those of the convolutions)."""
    stride_on: StrideOn = "3x3"
    """The convolution with the stride in a bottleneck of the ImageNet family: the 3x3 one, as in today's common
    implementation, or the first 1x1 one, as in the paper."""

    @property
    def of_shortcut(self) -> tuple[str, ...]:
        """The changed fields that a plain network cannot have; with any of them a residual run has no match."""
        return tuple(name for name in SHORTCUTS_OWN if getattr(self, name) != getattr(ORIGINAL, name))

    @property
    def adds_convolved(self) -> bool:
        """Whether a branch ends in a convolution, so that a block's last response is not normalized."""
        return self.order not in ENDS_IN_NORM

    @property
    def changed(self) -> tuple[str, ...]:
        """The fields that differ from He et al. 2015, as text: ``gate exclusive``."""
        # The default of stride_on is not the paper's.
        values = {name: getattr(self, name) for name in BlockSpec.model_fields if name != "stride_on"}
        return tuple(f"{name} {value}" for name, value in values.items() if value != getattr(ORIGINAL, name))

    @model_validator(mode="after")
    def one_variant_of_the_shortcut(self) -> Self:
        if self.gate == "none" and self.gate_bias != 0:
            raise ValueError(f"gate_bias {self.gate_bias} is a gate's: leave it out, or set gate")
        scaled = (self.branch_factor, self.shortcut_factor) != (1.0, 1.0)
        variants = {"constant scaling": scaled, "gate": self.gate != "none", "dropout": self.dropout > 0}
        chosen = [name for name, holds in variants.items() if holds]
        if len(chosen) > 1:
            raise ValueError(f"expected one variant of the shortcut, not {' and '.join(chosen)}: use separate arms")
        return self

    def fitting(self, norm: Norm) -> Self:
        """This spec, if it can be built with the norm; ValueError otherwise."""
        if norm == "none" and self.order in ("norm-after-addition", "full"):
            raise ValueError(f"order {self.order} places a norm: take norm batch, or another order")
        if self.start == "zero-gamma" and (norm == "none" or self.order not in ENDS_IN_NORM):
            raise ValueError("start zero-gamma needs a branch that ends in a norm: take norm batch and another order")
        if self.start == "fixup" and norm != "none":
            raise ValueError("start fixup replaces the norm: take norm none")
        return self


SHORTCUTS_OWN = ("branch_factor", "shortcut_factor", "gate", "gate_bias", "dropout", "start")
ORIGINAL = BlockSpec()
