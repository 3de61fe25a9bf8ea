"""The name of a figure -> its heading, what to see in it, and what it shows in words for who cannot see it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Words around a figure: ``see`` stands below it, ``alt`` in its place."""

    heading: str
    see: str
    alt: str


CAPTIONS: dict[str, Caption] = {
    "answer": Caption(
        heading="How far the deepest network is behind",
        see="Final training error of the deepest minus that of the shallowest network, on clean images, with the 95 % "
        "interval over seeds. To the right of zero the deeper network is worse: that is degradation. An interval "
        "that reaches across zero leaves it open.",
        alt="A point with its interval for each kind of network and arm: final training error of the deepest minus "
        "that of the shallowest network, in percentage points.",
    ),
    "curves": Caption(
        heading="Error against step",
        see="Compare the dashed lines, the training error on clean images: degradation is a darker (deeper) line that "
        "ends above a lighter (shallower) one. Overfitting cannot do that: it lowers the training error. Grey "
        "uprights are the steps at which the learning rate falls to a tenth (Figure 6 of He et al. 2015).",
        alt="Lines of training and test error against step, one panel for plain networks and one for residual ones, "
        "one shade for each depth.",
    ),
    "depth": Caption(
        heading="Error at the last step against depth",
        see="A line that rises to the right is degradation; one that falls means that depth helps. Each point is one "
        "seed: how sure a difference is stands in the table of estimates.",
        alt="Training error on the left and test error on the right against depth, one line for plain networks and "
        "one for each residual kind, each seed a point.",
    ),
    "gap": Caption(
        heading="Degradation gap against step",
        see="A line above zero whose band leaves zero out: the deeper network is behind at that step by more than the "
        "luck of these seeds explains. Degradation is a gap that stays to the end of a long schedule; one that closes "
        "is a deeper network that was only slower.",
        alt="Training error of the deepest minus that of the shallowest network against step, on clean images on the "
        "left and running on the right, a line with its interval for each kind of network.",
    ),
    "responses": Caption(
        heading="Size of the responses, layer by layer",
        see="Are the residual (blue) lines below the plain (orange) ones, and the deeper residual ones lowest? That "
        "is what Figure 7 of He et al. 2015 shows of converged networks: a layer of a deep residual network "
        "changes the signal less.",
        alt="Standard deviation of each layer's response at the last step: in layer order above, sorted by magnitude "
        "below, one line for each network.",
    ),
    "responses-heatmap": Caption(
        heading="Responses over layer and step",
        see="Read a panel from left to right for time and from bottom to top for depth in the network: a row that "
        "darkens is a layer whose response shrinks as it is trained.",
        alt="Grid of heat maps, one for each network: standard deviation of the response by layer and step.",
    ),
    "gradient-flow": Caption(
        heading="Gradient norms, layer by layer, at four steps",
        see="A line that falls toward layer 1 (left) is a gradient that shrinks on its way back to the image, one "
        "that rises toward it one that grows: the verdicts speak of vanishing and exploding beyond a factor of "
        "ten. Compare the first panel, at initialization, with the later ones: what holds there need not last.",
        alt="Gradient norm of each layer's weight on a logarithmic axis at four steps, a row of panels for each kind "
        "of network, one line for each depth.",
    ),
    "gradients-heatmap": Caption(
        heading="Gradient norms over layer and step",
        see="Colour that changes from bottom to top is a gradient that shrinks or grows on its way through the "
        "layers; from left to right it is training that changes it.",
        alt="Grid of heat maps, one for each network: logarithm of the weight's gradient norm by layer and step.",
    ),
    "branches": Caption(
        heading="Branch against shortcut, block by block",
        see="Below the grey line the branch is smaller than the shortcut that it is added to: the block is closer to "
        "the identity. Does it fall with the number of the block, and lower in deeper networks?",
        alt="Ratio of the branch's to the shortcut's standard deviation by block at three steps, one line for each "
        "residual network.",
    ),
    "lesion": Caption(
        heading="Deleting blocks of the trained networks",
        see="How far do the points lie above the dotted line, the error of the whole network? In converged networks, "
        "Veit et al. 2016 found a residual network hardly changed by the loss of one block, downsampling blocks aside, "
        "and a plain one destroyed by that of one layer; with more blocks gone, the residual error rises smoothly.",
        alt="Test error after deleting each block alone and after deleting k random blocks, with batch-norm statistics "
        "as trained and re-estimated, a row of panels for each kind of network, one line for each depth.",
    ),
    "reorder": Caption(
        heading="Blocks in another order",
        see="From left to right the order of the blocks is less and less that of training. An error that rises "
        "smoothly is a network whose blocks refine a common representation (Veit et al. 2016, of residual networks); "
        "one that leaps to chance is a network in which each block needs the one before it.",
        alt="Test error against Kendall's tau between the blocks' order and that of training, a row of panels for each "
        "kind of network, one line for each depth.",
    ),
    "identity": Caption(
        heading="How near each block is to the identity",
        see="A block near the identity has a small branch over its shortcut, a small change, and a cosine and a CKA "
        "near one. Are residual blocks nearer to it than plain ones, and those of deeper networks nearer still?",
        alt="Four numbers of each block by its place, branch over shortcut, relative change, cosine and linear CKA, a "
        "row of panels for each kind of network, one line for each depth.",
    ),
    "shatter": Caption(
        heading="How alike the gradients of neighbouring inputs are",
        see="Lines near the dotted grey one are gradients like white noise: a step that helps one image says nothing "
        "about its neighbour. Balduzzi et al. 2017 find that of deep plain networks at initialization, and a slower "
        "fall with depth in residual ones. Compare the left column with the middle one: it holds of trained networks "
        "only if they still lie low.",
        alt="Correlation of input gradients against the distance of the inputs, at initialization and trained, and of "
        "the nearest inputs against depth, a row for each kind of network.",
    ),
    "paths": Caption(
        heading="Paths through the residual networks",
        see="On the left, a straight line downward is a gradient that falls exponentially with the length of its path; "
        "on the right, a hill left of the one in the middle means that paths shorter than most carry the gradient "
        "(Veit et al. 2016, Figure 6).",
        alt="Gradient norm along a path, number of paths, and their product, against the number of blocks on the path, "
        "one line for each depth.",
    ),
    "landscape": Caption(
        heading="The loss around the trained weights",
        see="Round, even contours are a smooth bowl; islands and kinks are a rough surface, which Li et al. 2018 find "
        "of networks without shortcuts at depth 56 and more, and hardly at 20. A random plane is two directions of "
        "very many: what is smooth in it may be rough elsewhere.",
        alt="Training loss along a line and on a plane through the trained weights, as contours and in 3-D, a panel "
        "for each network.",
    ),
    "curvature": Caption(
        heading="Curvature of the loss",
        see="Is the orange line, plain, above the blue one, and more so with depth? That is what Yao et al. 2019 "
        "report of the trace. Below, the mass at zero are flat directions, and the points far to the right the few "
        "steep ones.",
        alt="Largest eigenvalue and trace of the Hessian and its negative part against depth, and below its spectral "
        "density, a panel for each kind of network.",
    ),
    "construct": Caption(
        heading="A deep network made from a shallow one",
        see="At step 0 deep and shallow have the same function, by running statistics (thick lines); by those of each "
        "batch (thin), as in training, a plain copy is another network. A solid line that stays with the dashed one is "
        "a deep network that trains as well as the shallow one from this start; one that stays below the dotted level "
        "has an error that training from scratch at this depth did not reach: its capacity was not what lacked.",
        alt="Training error against further steps of a trained network and of the deeper one made from it, one panel "
        "for each depth and kind of network.",
    ),
}
