"""Networks that change while they are recorded: layers that go, come or are replaced, weights that become trainable."""

import copy
import gc
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import degradation
from degradation.recording.copyable_hooks import Hook


class Net(nn.Module):
    """A layer that may be missing, one that reads it, and one at the end."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.aux, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        if getattr(self, "aux", None) is not None:
            x = x + self.aux(x)
        return self.fc(x)


def batch(step=0):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(step))


def steps(model, count, optimizer=None):
    for step in range(count):
        model.zero_grad()
        model(batch(step)).square().mean().backward()
        if optimizer is not None:
            optimizer.step()


def last(rec, frame="gradients"):
    found = rec.frame(frame)
    return found[found["step"] == found["step"].max()].set_index("name")


def hooks_of(model):
    modules = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    return modules + sum(len(weight._backward_hooks or ()) for weight in model.parameters())


def delete(model):
    del model.aux


GONE = {
    "none": lambda model: setattr(model, "aux", None),
    "deleted": delete,
    "replaced by nothing that has a weight": lambda model: setattr(model, "aux", nn.Identity()),
}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("go", GONE.values(), ids=list(GONE))
@pytest.mark.filterwarnings("ignore:no weight is left")
def test_a_layer_that_goes_is_noted_and_the_loop_goes_on(go, every):
    model = Net()
    with degradation.record(model, every=every) as rec:
        steps(model, 3)
        go(model)
        steps(model, 4)
    assert rec.step == 7
    frame = last(rec)
    assert frame["weight_grad_norm"]["body"] == pytest.approx(model.body.weight.grad.norm().item(), rel=1e-5)
    assert frame.loc["aux", ["weight_grad_norm", "weight_norm", "update_norm"]].isna().all()
    [line] = [line for line in rec.summary().splitlines() if "aux" in line and "no weight is left" in line]
    assert line in rec.notes
    assert "not finite" not in rec.summary()
    assert hooks_of(model) == 0


class Adapted(nn.Module):
    """A linear layer with a low-rank one beside it, as adapters have it."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(4, 2), nn.Linear(2, base.out_features)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


@pytest.mark.filterwarnings("ignore:no weight is left")
def test_an_adapter_that_is_merged_within_the_block():
    model = Net()
    model.aux = Adapted(model.aux)
    with degradation.record(model, every=1) as rec:
        steps(model, 2)
        model.aux = model.aux.base
        steps(model, 2)
    assert "no weight is left in aux.base, aux.down, aux.up" in rec.summary()
    # Its name in the network is another now: it is said, and not measured as the layer that had this name.
    assert "not recorded, though trained: aux (Linear)" in rec.summary()
    assert rec.step == 4
    assert last(rec)["weight_grad_norm"]["fc"] == pytest.approx(model.fc.weight.grad.norm().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:no weight is left")
def test_a_layer_that_is_wrapped_within_the_block_is_heard_once():
    model = Net()
    with degradation.record(model, every=1) as rec:
        steps(model, 1)
        old, model.aux = model.aux, Adapted(model.aux)
        steps(model, 1)
        response = model.aux(torch.tanh(model.body(batch())))
    assert last(rec, "responses")["std"]["aux"] == pytest.approx(response.std(correction=0).item(), rel=1e-5)
    assert hooks_of(model) == hooks_of(old) == 0


@pytest.mark.parametrize("whole", [True, False], ids=["by the network", "layer by layer"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_replaced_layer_is_measured_from_its_first_step_on(count, whole):
    def call(x):
        return model(x) if whole else model.fc(model.aux(torch.tanh(model.body(x))))

    model = Net()
    with degradation.record(model, every=2) as rec:
        for step in range(count + 2):
            if step == count:
                model.fc = nn.Linear(4, 7)
            model.zero_grad()
            x = batch(step)
            call(x).square().mean().backward()
            if step % 2 == 0:
                expected = model.fc.weight.grad.norm().item(), call(x).std(correction=0).item()
    assert rec.step == count + 2
    assert last(rec)["weight_grad_norm"]["fc"] == pytest.approx(expected[0], rel=1e-5)
    assert last(rec, "responses")["std"]["fc"] == pytest.approx(expected[1], rel=1e-5)


def test_a_new_layer_is_listed_as_not_recorded():
    model = Net()
    with degradation.record(model, every=1) as rec:
        model.more = nn.Linear(2, 2)
        steps(model, 2)
        assert "not recorded, though trained: more (Linear)" in rec.summary()
    del model.more
    assert "not recorded, though trained: more (Linear)" in rec.summary()


def test_a_network_that_is_frozen_at_the_start_and_trained_later():
    model = Net().requires_grad_(False)
    with degradation.record(model, every=1) as rec:
        model(batch())
        model.requires_grad_(True)
        steps(model, 3)
    assert rec.step == 3
    assert last(rec)["weight_grad_norm"]["body"] == pytest.approx(model.body.weight.grad.norm().item(), rel=1e-5)
    assert all(weight.requires_grad for weight in model.parameters())
    assert hooks_of(model) == 0


def test_a_recording_leaves_frozen_weights_frozen():
    model = Net().requires_grad_(False)
    with degradation.record(model, every=1):
        assert not any(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in model.parameters())
    assert hooks_of(model) == 0


@pytest.mark.parametrize("every", [1, 3, 10])
def test_both_phases_of_a_fine_tuning_are_counted_and_measured(every):
    model = Net().requires_grad_(False)
    model.fc.requires_grad_(True)
    with degradation.record(model, every=every) as rec:
        steps(model, 4)
        model.requires_grad_(True)
        model.fc.requires_grad_(False)
        steps(model, 4)
    assert rec.step == 8
    measured = list(range(0, 8, every))
    assert list(rec.frame("gradients")["step"].unique()) == measured
    body = rec.frame("gradients").query("name == 'body'").set_index("step")["weight_grad_norm"]
    assert [step for step in measured if body[step] > 0] == [step for step in measured if step >= 4]


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.filterwarnings("ignore:no update_norm")
def test_weights_that_are_loaded_by_assignment_are_followed(every):
    model, other = Net(), Net()
    with torch.no_grad():
        other.fc.weight.mul_(3)
    with degradation.record(model, every=every) as rec:
        steps(model, 3)
        model.load_state_dict(other.state_dict(), assign=True)
        model.requires_grad_(True)
        steps(model, 4)
    assert rec.step == 7
    frame = last(rec)
    assert frame["weight_grad_norm"]["fc"] == pytest.approx(model.fc.weight.grad.norm().item(), rel=1e-5)
    assert frame["weight_norm"]["fc"] == pytest.approx(other.fc.weight.norm().item(), rel=1e-5)
    assert hooks_of(model) == hooks_of(other) == 0


@pytest.mark.filterwarnings("ignore:no update_norm")
def test_the_update_of_a_weight_that_was_replaced_is_not_known_and_that_is_said():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with degradation.record(model, every=1) as rec:
        steps(model, 1, optimizer)
        model.fc.weight = nn.Parameter(model.fc.weight.detach() + 1)
        steps(model, 1)
    updates = rec.frame("gradients").query("step == 0").set_index("name")["update_norm"]
    assert updates.isna().to_dict() == {"body": False, "aux": False, "fc": True}
    assert "no update_norm of fc: the weight was replaced (step " in rec.summary()


@pytest.mark.filterwarnings("ignore:no weight is left")
@pytest.mark.parametrize("late", [True, False])
def test_a_weight_that_is_made_of_others_is_not_made_by_a_recording(late):
    def trained(recorded):
        model = Net()
        if not late:
            nn.utils.parametrizations.spectral_norm(model.aux)
        rec = degradation.record(model, every=1)
        with rec if recorded else nullcontext():
            steps(model, 2)
            if late:
                nn.utils.parametrizations.spectral_norm(model.aux)
            steps(model, 2)
        return model.state_dict()

    torch.manual_seed(1)
    expected = trained(recorded=False)
    torch.manual_seed(1)
    found = trained(recorded=True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_weight_that_is_another_at_every_step_is_not_kept():
    model = Net()
    with degradation.record(model, every=1000) as rec:
        for step in range(20):
            model.fc.weight = nn.Parameter(torch.randn(2, 4, generator=torch.manual_seed(step)))
            model(batch(step)).square().mean().backward()
        gc.collect()
        assert len(rec._backwards._hooked) == len(list(model.parameters()))
    assert rec.step == 20


def by_dict(model):
    model._modules["fc"] = nn.Linear(4, 2)


def by_parameters(model):
    for module in (model.body, model.aux, model.fc):
        module._parameters["weight"] = nn.Parameter(module.weight.detach().clone())
        module._parameters["bias"] = nn.Parameter(module.bias.detach().clone())


@pytest.mark.parametrize("change", [by_dict, by_parameters])
@pytest.mark.filterwarnings("ignore:.*another module replaced it", "ignore:no update_norm")
def test_what_is_put_into_the_tables_of_a_module_is_found_at_the_next_measured_step(change):
    model = Net()
    with degradation.record(model, every=2) as rec:
        steps(model, 2)
        change(model)
        steps(model, 3)
    assert rec.step == 5
    assert last(rec)["weight_grad_norm"]["fc"] == pytest.approx(model.fc.weight.grad.norm().item(), rel=1e-5)
    assert hooks_of(model) == 0


@pytest.mark.filterwarnings("ignore:steps of")
def test_weights_that_were_put_there_unseen_are_told_at_the_end():
    model = Net()
    with degradation.record(model, every=10) as rec:
        steps(model, 2)
        by_parameters(model)
        steps(model, 3)
    assert rec.step == 2
    assert "steps of body.weight, body.bias, aux.weight and 3 more alone are not counted" in rec.summary()


def test_other_networks_that_are_made_or_changed_are_none_of_a_recordings_business():
    model, other = Net(), Net()
    with degradation.record(model, every=1) as rec:
        other.fc = nn.Linear(4, 3)
        made = Net()
        steps(other, 2)
        steps(made, 2)
        assert hooks_of(other) == hooks_of(made) == 0
        steps(model, 1)
    assert rec.step == 1


def of_another_shape(model):
    model.fc.weight.data, model.fc.bias.data = torch.randn(3, 4), torch.randn(3)


def as_buffer(model):
    weight = model.aux.weight.detach()
    del model.aux.weight
    model.aux.register_buffer("weight", weight)


def over_meta(model):
    model.to("meta").to_empty(device="cpu")
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)


def in_inference_mode(model):
    with torch.inference_mode():
        model.aux.weight = nn.Parameter(torch.randn(4, 4))
    model.aux.weight = nn.Parameter(model.aux.weight.clone())


def copied(model):
    copy.deepcopy(model)(batch())


def spectral(model):
    nn.utils.parametrizations.spectral_norm(model.aux)


def normed_and_back(model):
    nn.utils.parametrizations.weight_norm(model.aux)
    nn.utils.parametrize.remove_parametrizations(model.aux, "weight")


ANY = {
    "pruned": lambda model: prune.l1_unstructured(model.aux, "weight", 0.5),
    "spectral norm": spectral,
    "weight norm and back": normed_and_back,
    "double": lambda model: model.double(),
    "bfloat16": lambda model: model.bfloat16(),
    "another shape": of_another_shape,
    "a buffer": as_buffer,
    "over meta": over_meta,
    "inference mode": in_inference_mode,
    "lazy": lambda model: setattr(model, "aux", nn.LazyLinear(4)),
    "tied": lambda model: setattr(model.aux, "weight", model.body.weight),
    "its hooks cleared": lambda model: model.aux._forward_hooks.clear(),
    "another forward": lambda model: setattr(model.aux, "forward", lambda x: 2 * x),
    "without bias": lambda model: setattr(model.aux, "bias", None),
    "several": lambda model: setattr(model, "aux", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))),
    "traced symbolically": lambda model: torch.fx.symbolic_trace(model.aux),
    "exported": lambda model: torch.export.export(model.aux, (batch(),)),
    "compiled": lambda model: model.aux.compile(backend="eager"),
    "shared": lambda model: model.share_memory(),
    "copied": copied,
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("change", ANY.values(), ids=list(ANY))
@pytest.mark.filterwarnings("ignore")
def test_whatever_becomes_of_a_layer_the_loop_goes_on_and_the_others_are_measured(change, every):
    model = Net()
    with degradation.record(model, every=every) as rec:
        for step in range(7):
            if step == 3:
                change(model)
            model.zero_grad()
            model(batch(step).to(model.body.weight.dtype)).square().mean().backward()
            torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert rec.step == 7
    found = last(rec)["weight_grad_norm"]["body"]
    assert found == pytest.approx(model.body.weight.grad.double().norm().item(), rel=1e-2)
    assert rec.first_nonfinite is None
    assert "not finite" not in rec.summary()
    hooks = [hook for module in model.modules() for hook in module._forward_hooks.values()]  # pruning has its own
    assert not any(isinstance(hook, Hook) for hook in hooks)
    assert not any(weight._backward_hooks for weight in model.parameters())


def test_layers_that_go_one_after_another_are_one_line_and_one_warning():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(8, 8) for _ in range(12)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with warnings.catch_warnings(record=True) as told, degradation.record(model, every=1) as rec:
        warnings.simplefilter("always")
        for _ in range(10):
            x = torch.randn(4, 8)
            for layer in model:
                x = layer(x)
            optimizer.zero_grad()
            x.square().mean().backward()
            optimizer.step()
            del model[len(model) - 1]
    lines = [line for line in rec.summary().splitlines() if "removed or" in line or "update_norm" in line]
    assert lines == [
        "no weight is left in 11, 10, 9 and 6 more: the layer was removed or changed (9 steps, the first is 1)"
    ]
    assert len(told) == 1
