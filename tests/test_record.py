"""`degradation.record` in the user's own loop, against a naive second implementation; what it leaves as it was."""

import copy
import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import degradation
from degradation.errors import UserError
from degradation.networks.layout import inferred

STEPS = 3


def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=10)


def images(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, 32, 32, generator=generator), torch.randint(0, 10, (4,), generator=generator)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 10)

    def forward(self, tokens):
        return self.head(self.encoder(self.embed(tokens)).mean(1))


def tokens(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, 20, (4, 5), generator=generator), torch.randint(0, 10, (4,), generator=generator)


class InPlace(nn.Module):
    """Linear layers on three dimensions and instance norms: their outputs are views, which are then written over."""

    def __init__(self):
        super().__init__()
        self.inplace = True
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True)
        self.one, self.two, self.head = nn.Linear(36, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)), inplace=self.inplace).flatten(2)
        x = F.relu(self.one(x), inplace=self.inplace)
        y = self.two(x)
        return self.head(y.add_(x) if self.inplace else y + x).mean(1)


def small(step):
    pixels, labels = images(step)
    return pixels[..., :8, :8], labels


def train(model, batches, steps=STEPS, watch=lambda step: None):
    """The user's loop; ``watch`` is called between backward and update."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(steps):
        x, y = batches(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        watch(step)
        optimizer.step()


def naive(model, batches, responses):
    """Everything of every step, kept as whole tensors: (step, name) -> numbers. ``responses``: layer -> module."""
    found, kept, before = {}, {}, {}

    def keep(name):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            values = output.detach().clone().double()
            output.register_hook(lambda gradient: kept.update({name: (values, gradient.clone().double())}))

        return hook

    for name, module in responses.items():
        model.get_submodule(module).register_forward_hook(keep(name))

    def watch(step):
        for name, (values, gradient) in kept.items():
            part = model.get_submodule(name)
            weight = part.weight
            before[step, name] = weight.detach().clone()
            found[step, name] = {
                "weight_grad_norm": weight.grad.norm().item(),
                "weight_norm": weight.norm().item(),
                "response_grad_norm": gradient.norm().item(),
                "response_grad_rms": gradient.square().mean().sqrt().item(),
                "mean": values.mean().item(),
                "std": values.std(correction=0).item(),
                "zero_fraction": (values <= 0).double().mean().item(),
            }

    train(model, batches, watch=watch)
    for (step, name), row in found.items():
        later = before.get((step + 1, name), model.get_submodule(name).weight.detach())
        row["update_norm"] = (later - before[step, name]).norm().item()
    return found


def rows(rec):
    found = {}
    for name in rec.frames:
        for row in rec.frame(name).to_dict("records"):
            found.setdefault((row["step"], row["name"]), {}).update(row)
    return found


def resnet_responses():
    parts = [("conv1", "bn1")]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            parts += [(f"layer{stage}.{block}.conv{half}", f"layer{stage}.{block}.bn{half}") for half in (1, 2)]
        if stage > 1:
            parts.append((f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1"))
    return dict([*parts, ("fc", "fc")])


def transformer_responses():
    names = ["linear1", "linear2", "norm1", "norm2"]
    parts = {f"encoder.layers.{n}.{name}": f"encoder.layers.{n}.{name}" for n in (0, 1) for name in names}
    parts |= {f"encoder.layers.{n}.self_attn.out_proj": f"encoder.layers.{n}.self_attn" for n in (0, 1)}
    return parts | {"head": "head"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "batches", "responses"),
    [(resnet, images, resnet_responses), (Transformer, tokens, transformer_responses)],
)
def test_every_number_is_that_of_a_naive_loop(make, batches, responses):
    torch.manual_seed(0)
    model = make()
    expected = naive(copy.deepcopy(model), batches, responses())
    with degradation.record(model, every=1) as rec:
        train(model, batches)
    found = rows(rec)
    assert {name for _, name in expected} == set(responses())
    assert {name for _, name in found} - set(responses()) == (
        {f"encoder.layers.{n}.self_attn" for n in (0, 1)} if make is Transformer else set()
    )
    for key, row in expected.items():
        for column, value in row.items():
            assert found[key][column] == pytest.approx(value, rel=2e-3, abs=1e-5), (key, column)


def test_outputs_that_are_views_are_heard_though_they_are_written_over():
    torch.manual_seed(0)
    model = InPlace()
    other = copy.deepcopy(model)
    other.inplace = False  # else the naive hooks are lost themselves
    expected = naive(other, small, {"conv": "norm", "one": "one", "two": "two", "head": "head"})
    with degradation.record(model, every=1) as rec:
        train(model, small)
    found = rows(rec)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for column, value in row.items():
            assert found[key][column] == pytest.approx(value, rel=2e-3, abs=1e-5), (key, column)
    assert not rec.notes


class Perceptual(nn.Module):
    """A frozen part that is used twice: with a gradient that comes back, and for the target without one."""

    def __init__(self):
        super().__init__()
        self.make, self.see = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x):
        return F.mse_loss(self.see(self.make(x)), self.see(x))


def test_of_a_layer_used_with_and_without_a_gradient_the_gradient_is_that_which_came():
    torch.manual_seed(0)
    model, x = Perceptual(), torch.randn(5, 8)
    with degradation.record(model, every=1) as rec:
        model(x).backward()
    with torch.no_grad():
        made, wanted = model.see(model.make(x)), model.see(x)
    gradient = 2 * (made - wanted) / made.numel()
    row = rows(rec)[0, "see"]
    assert row["response_grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)
    assert row["response_grad_rms"] == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-5)
    assert row["std"] == pytest.approx(torch.cat([made, wanted]).std(correction=0).item(), rel=1e-5)
    assert rec.first_nonfinite is None


def test_a_frozen_layers_response_is_that_of_the_forward_that_the_step_went_through():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 2)), torch.randn(5, 8)
    with degradation.record(model, every=1) as rec:
        for _ in range(2):
            model(1000 * torch.randn(100, 8))  # its output is dropped
            model(x).sum().backward()
    for step in range(2):
        assert rows(rec)[step, "0"]["std"] == pytest.approx(model[0](x).std(correction=0).item(), rel=1e-5)


def per_sample(model, x):
    def loss(weights, one):
        return torch.func.functional_call(model, weights, (one,)).square().sum()

    return torch.func.vmap(torch.func.grad(loss), (None, 0))(dict(model.named_parameters()), x)


def on_meta(model, x):
    weights = {name: weight.to("meta") for name, weight in model.named_parameters()}
    return torch.func.functional_call(model, weights, (x.to("meta"),))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unusual",
    [
        per_sample,
        on_meta,
        lambda model, x: torch.func.jacrev(model)(x),
        lambda model, x: torch.func.jacfwd(model)(x),
        lambda model, x: torch.autograd.functional.hessian(lambda y: model(y).square().sum(), x, vectorize=True),
        lambda model, x: torch.jit.trace(model, x),
    ],
    ids=["vmap of grad", "meta", "jacrev", "jacfwd", "vectorized hessian", "trace"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_what_is_no_ordinary_pass_is_not_heard_and_goes_on_as_without(unusual):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(3, 4)
    with degradation.record(model, every=1) as alone:
        model(x).sum().backward()
    with degradation.record(model, every=1) as rec:
        unusual(model, x)
        model.zero_grad()
        model(x).sum().backward()
    last, expected = rec.frame("responses"), alone.frame("responses")
    last = last[last["step"] == last["step"].max()]
    for column in ("mean", "std", "zero_fraction"):
        assert last[column].tolist() == expected[column].tolist()
    assert rec.first_nonfinite is None


class Phases(nn.Module):
    """A layer of complex numbers, whose responses have no order and so no share above zero, before one of real ones."""

    def __init__(self):
        super().__init__()
        self.turn, self.head = nn.Linear(4, 2, dtype=torch.complex64), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.turn(x).abs())


def test_complex_weights_are_recorded():
    torch.manual_seed(0)
    model, x = Phases(), torch.randn(3, 4, dtype=torch.complex64)
    with degradation.record(model, every=1) as rec:
        model(x).sum().backward()
    row, weight = rows(rec)[0, "turn"], model.turn.weight
    assert row["weight_norm"] == pytest.approx(weight.norm().item(), rel=1e-5)
    assert row["weight_grad_norm"] == pytest.approx(weight.grad.norm().item(), rel=1e-5)
    assert "std" not in row or math.isnan(row["std"])


@pytest.mark.parametrize("made", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_a_weight_that_is_made_of_others_is_named_as_not_recorded(made):
    model = nn.Sequential(made(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2))
    with degradation.record(model, every=1) as rec:
        model(torch.randn(3, 4)).sum().backward()
    assert "not recorded, though trained: 0" in rec.summary()


def test_the_projection_of_an_attention_has_a_weight_and_no_response():
    model = Transformer()
    with degradation.record(model, every=1) as rec:
        train(model, tokens, 1)
    row = rows(rec)[0, "encoder.layers.0.self_attn"]
    expected = model.encoder.layers[0].self_attn.in_proj_weight.grad.norm().item()
    assert row["weight_grad_norm"] == pytest.approx(expected, rel=1e-5)
    assert math.isnan(row["response_grad_norm"])
    assert "std" not in row


@pytest.mark.slow
def test_layers_come_in_forward_order_and_stages_by_feature_map():
    model = resnet()
    with degradation.record(model, every=5) as rec:
        train(model, images, 1)
    frame = rec.frame("gradients")
    assert list(frame["layer"]) == list(range(1, 22))
    assert list(frame["name"])[:2] == ["conv1", "layer1.0.conv1"]
    assert list(frame["stage"]) == [1, *[2] * 4, *[3] * 5, *[4] * 5, *[5] * 5, 6]


def state_of(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())
    hooks += sum(len(p._backward_hooks or ()) for p in model.parameters())
    return tensors, hooks, [m.training for m in model.modules()], torch.get_rng_state().tolist()


@pytest.mark.slow
def test_a_recorded_loop_ends_with_the_bits_of_one_that_is_not():
    one, other = resnet(), resnet()
    torch.manual_seed(5)
    train(one, images)
    expected = state_of(one)
    torch.manual_seed(5)
    with degradation.record(other, every=2):
        train(other, images)
    tensors, *rest = state_of(other)
    assert rest == list(expected[1:])
    assert rest[0] == 0
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "forward", "backward"])
def test_hooks_are_gone_after_an_exception_and_the_earlier_steps_are_kept(place):
    model = resnet()
    scale = torch.amp.GradScaler.scale

    def fail(step):
        if step == 2 and place == "backward":
            raise RuntimeError("mine")

    def batches(step):
        if step == 2 and place == "before":
            raise RuntimeError("mine")
        if step == 2 and place == "forward":
            return torch.randn(4, 5, 8, 8), images(0)[1]
        return images(step)

    rec = degradation.record(model, every=1)
    with pytest.raises(RuntimeError), rec:
        train(model, batches, watch=fail)
    assert state_of(model)[1] == 0
    assert torch.amp.GradScaler.scale is scale
    steps = rec.frame("gradients").groupby("step")["update_norm"].min()
    assert list(steps.index) == ([0, 1, 2] if place == "backward" else [0, 1])
    assert steps[0] > 0
    if place == "backward":
        assert math.isnan(steps[2])


@pytest.mark.slow
def test_evaluation_within_the_block_is_no_step():
    model = resnet()
    with degradation.record(model, every=1) as rec:

        def evaluate(step):
            with torch.no_grad():
                model(torch.randn(8, 3, 32, 32))

        train(model, images, 2, watch=evaluate)
    assert list(rec.frame("responses")["examples"].unique()) == [4]
    assert list(rec.frame("responses")["step"].unique()) == [0, 1]


def test_a_forward_with_gradients_that_nothing_is_made_of_does_not_count():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(5, 3)
    with degradation.record(model, every=1) as rec:
        model(100 * x)
        model(x).sum().backward()
    std = model[0](x).std(correction=0).item()
    assert rec.frame("responses")["std"].iloc[0] == pytest.approx(std, rel=1e-4)


def test_a_shared_layer_is_pooled_over_its_uses():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 3), torch.randn(5, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    first = layer(x)
    second = layer(torch.tanh(first))
    first.retain_grad(), second.retain_grad()
    second.square().sum().backward()
    both, gradients = torch.cat([first, second]).double(), torch.cat([first.grad, second.grad]).double()
    expected, layer.weight.grad = layer.weight.grad.norm().item(), None
    with degradation.record(model, every=1) as rec:
        model(x).square().sum().backward()
    [row] = rows(rec).values()
    assert row["std"] == pytest.approx(both.std(correction=0).item(), rel=1e-4)
    assert row["mean"] == pytest.approx(both.mean().item(), rel=1e-4)
    assert row["zero_fraction"] == pytest.approx((both <= 0).double().mean().item())
    assert row["response_grad_norm"] == pytest.approx(gradients.norm().item(), rel=1e-4)
    assert row["response_grad_rms"] == pytest.approx(gradients.square().mean().sqrt().item(), rel=1e-4)
    assert row["weight_grad_norm"] == pytest.approx(expected, rel=1e-4)


def test_layers_are_chosen_by_globs():
    names = [layer.name for layer in inferred(resnet(), ["layer1.*", "fc"]).layers]
    assert names == [f"layer1.{block}.conv{half}" for block in (0, 1) for half in (1, 2)] + ["fc"]
    assert [layer.name for layer in inferred(Transformer(), ["embed"]).layers] == ["embed"]
    assert [layer.name for layer in inferred(resnet(), ["bn1"]).layers] == ["conv1"]


def test_the_statistics_of_a_response_are_those_of_its_step_and_layer():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
    )
    with degradation.record(model, every=1) as rec:
        for train_ in (True, False, True):
            model.train(train_)
            model[1].eval()
            model(torch.randn(2, 3, 8, 8)).mean().backward()
    found = rec.frame("responses").pivot(index="name", columns="step", values="statistics")
    assert found.loc["0"].tolist() == ["running"] * 3
    assert found.loc["2"].tolist() == ["batch", "running", "batch"]
    assert found.loc["4"].tolist() == ["batch", "running", "batch"]


@pytest.mark.slow
def test_only_what_is_asked_for_is_recorded():
    model = resnet()
    with degradation.record(model, gradients=False) as rec:
        train(model, images, 1)
    assert list(rec.frames) == ["responses"]
    with pytest.raises(UserError, match="no frame 'gradients'"):
        rec.frame("gradients")


def test_a_network_in_double_precision_is_recorded_with_its_norms():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    with degradation.record(model, every=1) as rec:
        model(torch.randn(4, 8).double()).square().sum().backward()
        wanted = [model[place].weight.grad.norm().item() for place in (0, 2)]
    assert rec.frame("gradients")["weight_grad_norm"].tolist() == pytest.approx(wanted, rel=1e-6)
    assert "at step 0" in rec.summary()
