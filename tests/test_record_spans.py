"""Which steps a recording calls finite, which it calls skipped by a GradScaler, and what it does not know."""

import math

import pytest
import torch
from torch import nn

import degradation

HEALTHY = "no layer vanishes, explodes or is dead"


class Rooted(nn.Module):
    """The root of a branch that is zero has an infinite gradient, so that of ``b`` is NaN while all else is finite."""

    def __init__(self, bad=range(1_000_000)):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 2)
        self.bad, self.step = bad, 0

    def forward(self, x):
        factor = 0 if self.step in self.bad else 1
        self.step += 1
        return self.c(self.a(x) + torch.sqrt(self.b(x * factor).abs()))


class Steep(nn.Module):
    """At ``bad`` steps the gradients of all layers before the last are infinite times NaN; the loss is finite."""

    def __init__(self, bad):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        self.bad, self.step = bad, 0

    def forward(self, x):
        x = self.first(x)
        if self.step in self.bad:
            x.register_hook(lambda gradient: gradient * math.inf)
        self.step += 1
        return self.last(x)


class Masked(nn.Module):
    """At ``bad`` steps a response is infinite that no gradient shows."""

    def __init__(self, bad):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.b.register_forward_hook(lambda _m, _i, output: output + (math.inf if self.step in bad else 0))
        self.step = 0

    def forward(self, x):
        seen = self.b(x).clamp(-1, 1)
        self.step += 1
        return self.c(self.a(x) + seen)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def loop(model, steps=25, every=10, bad=(), scaler=None, accumulate=1, move=True):
    """``bad`` are the steps with a NaN in the input; every ``accumulate`` steps the weights are updated."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01 if move else 0.0)
    with degradation.record(model, every=every) as rec:
        for step in range(steps):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            if step in bad:
                x[0, 0] = math.nan
            loss = model(x).square().mean()
            (loss if scaler is None else scaler.scale(loss)).backward()
            if (step + 1) % accumulate:
                continue
            if scaler is None:
                if all(weight.grad.isfinite().all() for weight in model.parameters()):
                    optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
    return rec


def measured(rec):
    return [int(step) for step in rec.frame("gradients")["step"].unique()]


def broken(rec):
    """The lines that are not the head."""
    return rec.summary().splitlines()[1:]


def scaler():
    return torch.amp.GradScaler("cpu")


# which steps are finite


def test_a_gradient_that_is_never_finite_is_told_as_such_and_not_as_finite_again():
    rec = loop(Rooted())
    assert measured(rec) == [0, 1, 10, 11, 20, 21]
    assert broken(rec)[0] == "not finite since step 0: first the gradient of b"
    assert "again" not in rec.summary()


def test_a_single_step_whose_middle_layer_is_not_finite_is_seen_and_the_next_one_measured():
    rec = loop(Rooted(bad=[13]))
    assert measured(rec) == [0, 10, 14, 20]
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.startswith("not finite at step 13, where no layer was seen to begin it: every=1 shows it")
    assert line.endswith("; finite again from step 14")


def test_only_a_step_that_was_measured_is_called_finite_again():
    rec = loop(Rooted(bad=[23]), steps=24)
    assert "again" not in rec.summary()
    rec = loop(Rooted(bad=[22, 23]), steps=25)
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.endswith("; at step 24, not measured, the gradients were finite")
    rec = loop(Rooted(bad=[22, 23]), steps=26)
    assert 25 in measured(rec)
    [line] = [line for line in broken(rec) if "not finite" in line]
    assert line.endswith("; finite again from step 25")


def test_what_only_measured_steps_show_is_told_of_measured_steps():
    rec = loop(Masked(bad=range(100)))
    assert measured(rec) == [0, 1, 10, 11, 20, 21]
    assert broken(rec)[0] == (
        "not finite at every measured step since step 0 (between them only finite gradients were seen): "
        "first the response of b"
    )
    assert "again" not in rec.summary()
    rec = loop(Masked(bad=range(15)))
    assert "at every measured step from step 0 to 11 (" in broken(rec)[0]
    assert broken(rec)[0].endswith(": first the response of b; finite again from step 20")


def test_with_accumulation_the_steps_after_a_nan_are_finite_though_their_sum_is_not():
    rec = loop(plain(), bad=[4], every=1, steps=9, accumulate=8)
    assert "not finite at step 4: first the input of 0; finite again from step 5" in rec.summary()


@pytest.mark.parametrize("to_none", [True, False])
def test_it_makes_no_difference_how_gradients_are_cleared(to_none):
    model = Rooted(bad=[5])
    with degradation.record(model, every=10) as rec:
        for _ in range(9):
            model.zero_grad(set_to_none=to_none)
            model(torch.randn(16, 8)).square().mean().backward()
    assert "not finite at step 5, " in rec.summary()
    assert "finite again from step 6" in rec.summary()


def test_an_optimizer_within_the_backward_hides_nothing():
    model = Rooted(bad=[5])

    def stepped(weight):
        weight.grad = None

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(stepped)
    with degradation.record(model, every=10) as rec:
        for _ in range(9):
            model(torch.randn(16, 8)).square().mean().backward()
    assert "not finite at step 5, " in rec.summary()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_gradients_of_any_type_are_watched(dtype):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.odd = nn.Linear(4, 4), nn.Parameter(torch.ones(4, dtype=dtype))

        def forward(self, x):
            return self.linear(x) * self.odd.abs().float()

    model = Odd()
    with degradation.record(model, every=10) as rec:
        for step in range(4):
            model.zero_grad()
            with torch.no_grad():
                model.odd.fill_(1)
            outputs = model(torch.randn(2, 4))
            if step == 2:
                model.odd.grad = torch.full_like(model.odd, math.nan)
            outputs.sum().backward()
    assert "not finite" not in rec.summary()


def spoilt(values):
    values = values.clone()
    values[1, 150] = math.nan
    return values


@pytest.mark.parametrize("where", ["input", "response", "gradient"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(600, 600, bias=False), (3, 600)),
        (lambda: nn.Conv2d(200, 200, 3, padding=1, bias=False), (2, 200, 5, 5)),
    ],
    ids=["linear", "convolution"],
)
def test_one_value_that_is_not_finite_is_seen_in_a_gradient_too_large_to_be_read_whole(make, shape, where):
    model = nn.ModuleList([nn.Linear(1, 1), make()])  # the first is reached first, and is finite
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            model.zero_grad()
            change = spoilt if step == 2 else torch.clone
            x = torch.randn(shape)
            response = model[1](change(x) if where == "input" else x)
            if where == "gradient":
                response.register_hook(change)
            outputs = change(response) * response if where == "response" else response
            (outputs.nansum() + model[0](torch.ones(1)).sum()).backward()
    assert "not finite at step 2, " in rec.summary()


def test_a_sparse_gradient_is_watched():
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 2))
    with degradation.record(model, every=10) as rec:
        for step in range(5):
            model.zero_grad()
            seen = model[0](torch.tensor([1, 2]))
            if step == 2:
                seen.register_hook(lambda gradient: gradient * math.inf * 0)
            model[1](seen).sum().backward()
    assert "not finite at step 2" in rec.summary()


# which a GradScaler made


def thirty(every, bad=()):
    """Thirty steps in half precision under a GradScaler that begins far too high."""
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(8, 8), nn.ReLU())), nn.Linear(8, 2))
    optimizer, high = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    with degradation.record(model, every=every) as rec:
        for step in range(30):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step)) * (math.nan if step in bad else 1)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = model(x).float().square().mean()
            high.scale(loss).backward()
            high.step(optimizer)
            high.update()
    return rec


@pytest.mark.parametrize("every", [1, 7])
def test_steps_that_a_grad_scaler_skips_for_its_factor_are_no_failure(every):
    rec = thirty(every)
    skips = next(line for line in rec.summary().splitlines() if "GradScaler" in line)
    assert skips.startswith("the GradScaler skipped ")
    assert "(steps 0 to " in skips
    assert skips.endswith("as with a factor that is too large")
    assert "not finite " not in rec.summary().replace(skips, "")
    assert rec.first_nonfinite is None
    assert HEALTHY in rec.summary()


def test_a_nan_among_steps_that_are_skipped_for_the_factor_is_a_failure():
    rec = thirty(1, bad=[3])
    assert rec.summary().splitlines()[1].startswith("not finite at steps 0 to ")
    assert rec.first_nonfinite is not None


@pytest.mark.parametrize("every", [1, 10])
def test_a_nan_in_every_input_is_a_failure_though_every_step_is_skipped(every):
    rec = loop(plain(), every=every, bad=range(25), scaler=scaler())
    assert broken(rec)[0] == "not finite since step 0: first the input of 0; the GradScaler skipped every step since"
    assert "too large" not in rec.summary()
    assert rec.first_nonfinite.what == "input"


def test_nan_from_a_step_to_the_end_is_a_failure_since_that_step():
    rec = loop(plain(), bad=range(12, 25), scaler=scaler())
    assert broken(rec)[0] == (
        "not finite since step 12, which was not measured; by step 13 the input of 0; "
        "the GradScaler skipped every step since"
    )


def test_a_bad_batch_that_is_skipped_is_told_by_its_loss():
    rec = loop(plain(), bad=[7], scaler=scaler())
    assert broken(rec)[0] == (
        "not finite at step 7, where the loss was not finite and no layer was seen to begin it: every=1 shows it; "
        "the GradScaler skipped it; finite again from step 8"
    )
    rec = loop(plain(), bad=[7], every=1, scaler=scaler())
    assert "not finite at step 7: first the input of 0; the GradScaler skipped it; finite again" in rec.summary()


@pytest.mark.parametrize("every", [1, 10])
def test_gradients_that_no_smaller_factor_mends_are_a_failure(every):
    rec = loop(Rooted(), every=every, scaler=scaler())
    assert broken(rec)[0] == "not finite since step 0: first the gradient of b; the GradScaler skipped every step since"


def test_of_a_few_skips_that_still_run_it_is_not_known_what_they_are():
    [line] = [line for line in broken(loop(Rooted(bad=range(22, 25)), scaler=scaler())) if "GradScaler" in line]
    assert line.startswith("the GradScaler skipped 3 steps (steps 22 to 24) where the loss was finite and ")
    assert line.endswith("since step 22 none was finite: whether a smaller factor helps is not known yet")
    assert "no failure" not in line


@pytest.mark.parametrize(("count", "failure"), [(8, False), (9, True)])
def test_eight_skips_in_a_row_can_be_the_factor_and_nine_cannot(count, failure):
    text = loop(Steep(bad=range(3, 3 + count)), scaler=scaler()).summary()
    assert ("not finite at steps 3 to " in text) == failure
    assert ("as with a factor that is too large" in text) != failure


def test_with_accumulation_a_skip_is_of_all_the_steps_of_an_update():
    rec = loop(Steep(bad=range(12)), every=1, steps=24, scaler=scaler(), accumulate=4)
    assert any(line.startswith("the GradScaler skipped 12 steps (steps 0 to 11) ") for line in broken(rec))
    rec = loop(Steep(bad=[1, 3]), every=1, steps=24, scaler=scaler(), accumulate=4)
    assert any(line.startswith("the GradScaler skipped 2 steps (steps 1 to 3) ") for line in broken(rec))


def test_a_summary_within_the_loop_knows_of_the_skip_just_made():
    model, high, said = Steep(bad=[2]), scaler(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with degradation.record(model, every=1) as rec:
        for _ in range(5):
            optimizer.zero_grad()
            high.scale(model(torch.randn(4, 8)).mean()).backward()
            high.step(optimizer)
            high.update()
            said.append(rec.summary())
            assert rec.first_nonfinite is None
    assert "the GradScaler skipped 1 step (step 2) where the loss was finite" in said[2]


def test_the_loss_of_a_paused_step_is_anothers():
    model, high = Steep(bad=[5]), scaler()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with degradation.record(model, every=10) as rec:
        for _ in range(12):
            with rec.paused():
                high.scale(torch.tensor(math.nan))
            optimizer.zero_grad()
            high.scale(model(torch.randn(4, 8)).mean()).backward()
            high.step(optimizer)
            high.update()
    assert "the GradScaler skipped 1 step (step 5) where the loss was finite" in rec.summary()
