"""The name of a figure -> its heading, its caption, and its alternative text."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Texts of a figure: ``see`` is the caption, ``alt`` the alternative text."""

    heading: str
    see: str
    alt: str


CAPTIONS: dict[str, Caption] = {
    "answer": Caption(
        heading="How far the deepest network is behind",
        see="Final training error of the deepest minus that of the shallowest network, on clean images, with its 95 % "
        "interval over seeds. Right of zero the deeper network is worse: this is degradation. An interval "
        "that includes zero decides nothing.",
        alt="A point with its interval for each kind of network and arm: final training error of the deepest minus "
        "that of the shallowest network, in percentage points.",
    ),
    "curves": Caption(
        heading="Error against step",
        see="Compare the dashed lines, the training error on clean images. Degradation is a darker (deeper) line that "
        "ends above a lighter (shallower) one. Overfitting cannot cause this: it lowers the training error. Grey "
        "vertical lines: the learning rate is divided by 10 (Figure 6 of He et al. 2015).",
        alt="Lines of training and test error against step, one panel for plain networks and one for residual ones, "
        "one shade for each depth.",
    ),
    "depth": Caption(
        heading="Error at the last step against depth",
        see="A line that rises to the right is degradation. One that falls means that depth helps. Each point is one "
        "seed. The table of estimates gives the interval of each difference.",
        alt="Training error on the left and test error on the right against depth, one line for plain networks and "
        "one for each residual kind, each seed a point.",
    ),
    "gap": Caption(
        heading="Degradation gap against step",
        see="If a line and its band are above zero, the deeper network is worse at that step by more than the "
        "variation between seeds explains. Degradation is a gap that stays to the end of a long schedule. If the gap "
        "closes, the deeper network was only slower.",
        alt="Training error of the deepest minus that of the shallowest network against step, on clean images on the "
        "left and running on the right, a line with its interval for each kind of network.",
    ),
    "responses": Caption(
        heading="Size of the responses, layer by layer",
        see="Are the residual (blue) lines below the plain (orange) ones, and the deeper residual ones lowest? This "
        "is what Figure 7 of He et al. 2015 shows for converged networks: a layer of a deep residual network "
        "changes the signal less.",
        alt="Standard deviation of each layer's response at the last step: in layer order above, sorted by magnitude "
        "below, one line for each network.",
    ),
    "responses-heatmap": Caption(
        heading="Responses over layer and step",
        see="In each panel, time runs from left to right and layers from bottom to top. A row that "
        "darkens is a layer whose response shrinks during training.",
        alt="Grid of heat maps, one for each network: standard deviation of the response by layer and step.",
    ),
    "gradient-flow": Caption(
        heading="Gradient norms, layer by layer, at four steps",
        see="A line that falls toward layer 1 (left) is a gradient that shrinks on its way back to the image. A line "
        "that rises toward it is a gradient that grows. The verdicts use vanishing and exploding beyond a factor of "
        "ten. Compare the first panel, at initialization, with the later ones: a pattern there may not last.",
        alt="Gradient norm of each layer's weight on a logarithmic axis at four steps, a row of panels for each kind "
        "of network, one line for each depth.",
    ),
    "gradients-heatmap": Caption(
        heading="Gradient norms over layer and step",
        see="If the colour changes from bottom to top, the gradient shrinks or grows on its way through the "
        "layers. If it changes from left to right, training changes the gradient.",
        alt="Grid of heat maps, one for each network: logarithm of the weight's gradient norm by layer and step.",
    ),
    "branches": Caption(
        heading="Branch against shortcut, block by block",
        see="Below the grey line the branch is smaller than the shortcut to which it is added: the block is closer to "
        "the identity. Does the ratio fall from block to block, and is it lower in deeper networks?",
        alt="Ratio of the branch's to the shortcut's standard deviation by block at three steps, one line for each "
        "residual network.",
    ),
    "lesion": Caption(
        heading="Deleting blocks of the trained networks",
        see="How far are the points above the dotted line, the error of the whole network? In converged networks, "
        "Veit et al. 2016 found that losing one block, except a downsampling block, changes a residual network little, "
        "and that losing one layer destroys a plain one. With more blocks deleted, the residual error rises smoothly.",
        alt="Test error after deleting each block alone and after deleting k random blocks, with batch-norm statistics "
        "as trained and re-estimated, a row of panels for each kind of network, one line for each depth.",
    ),
    "reorder": Caption(
        heading="Blocks in another order",
        see="From left to right the order of the blocks differs more and more from training. If the error rises "
        "smoothly, the blocks refine a common representation (Veit et al. 2016, for residual networks). "
        "If it jumps to chance, each block needs the one before it.",
        alt="Test error against Kendall's tau between the blocks' order and that of training, a row of panels for each "
        "kind of network, one line for each depth.",
    ),
    "identity": Caption(
        heading="How close each block is to the identity",
        see="A block close to the identity has a small ratio of branch to shortcut, a small change, a cosine and a CKA "
        "near one. Are residual blocks closer to it than plain ones, and blocks of deeper networks closer still?",
        alt="Four numbers of each block by its place, branch over shortcut, relative change, cosine and linear CKA, a "
        "row of panels for each kind of network, one line for each depth.",
    ),
    "shatter": Caption(
        heading="How similar the gradients of neighbouring inputs are",
        see="Lines near the dotted grey one are gradients like white noise: a step that helps one image tells nothing "
        "about its neighbour. Balduzzi et al. 2017 find this for deep plain networks at initialization, and a slower "
        "fall with depth in residual ones. Compare the left column with the middle one: it is true of trained networks "
        "only if their lines are still low.",
        alt="Correlation of input gradients against the distance of the inputs, at initialization and trained, and of "
        "the nearest inputs against depth, a row for each kind of network.",
    ),
    "paths": Caption(
        heading="Paths through the residual networks",
        see="On the left, a straight falling line is a gradient that decreases exponentially with path length. "
        "If the peak on the right is left of the peak in the middle, short paths contribute most of the gradient "
        "(Veit et al. 2016, Figure 6).",
        alt="Gradient norm along a path, number of paths, and their product, against the number of blocks on the path, "
        "one line for each depth.",
    ),
    "landscape": Caption(
        heading="The loss around the trained weights",
        see="Round, even contours are a smooth bowl. Islands and kinks are a rough surface, which Li et al. 2018 find "
        "for networks without shortcuts at depth 56 and more, and little at 20. A random plane is two directions of "
        "very many: the loss may be smooth here and rough elsewhere.",
        alt="Training loss along a line and on a plane through the trained weights, as contours and in 3-D, a panel "
        "for each network.",
    ),
    "curvature": Caption(
        heading="Curvature of the loss",
        see="Is the orange line (plain) above the blue one, and further with depth? This is what Yao et al. 2019 "
        "report for the trace. Below, the mass at zero is flat directions, and the points far to the right are the few "
        "steep directions.",
        alt="Largest eigenvalue and trace of the Hessian and its negative part against depth, and below its spectral "
        "density, a panel for each kind of network.",
    ),
    "signal": Caption(
        heading="How signals and gradients pass through",
        see="Open markers: at initialization; filled: trained. A condition that grows with depth means that some "
        "directions of the input, or of the gradients, are all but lost. If plain networks are worse than residual "
        "ones at initialization but alike when trained, the measure does not explain a gap that remains.",
        alt="Condition of the input-output Jacobian, mean cosine and condition of the kernel of gradients, cosines of "
        "loss gradients and gradient noise scale against depth, plain and residual networks in one panel.",
    ),
    "cka": Caption(
        heading="Similarity of every two layers (CKA)",
        see="A bright square along the diagonal is a row of layers whose responses are alike: each adds little. "
        "Compare plain networks with residual ones of the same depth.",
        alt="For each trained network a square picture of the CKA of every two layers, a row for each kind of network, "
        "a column for each depth.",
    ),
    "construct": Caption(
        heading="A deep network made from a shallow one",
        see="At step 0 deep and shallow are one function with running statistics (thick lines). With those of each "
        "batch (thin), as in training, a plain copy is another network. If a solid line stays with the dashed one, "
        "the deep network trains as well as the shallow one from this start. If it stays below the dotted level, "
        "its error is lower than training from scratch at this depth reached: capacity was not the limit.",
        alt="Training error against further steps of a trained network and of the deeper one made from it, one panel "
        "for each depth and kind of network.",
    ),
}
