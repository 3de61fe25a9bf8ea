"""Which steps a recording lays to the factor of a GradScaler, and which it calls a failure though they were skipped."""

import math

import pytest
import torch
from torch import nn

import degradation
from tests.test_record_spans import Rooted, broken, loop, plain

HEALTHY = "no layer vanishes, explodes or is dead"


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


def scaler():
    return torch.amp.GradScaler("cpu")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
        "not finite at step 7, where the loss was not finite and no layer was seen to start it: every=1 shows it; "
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


def test_a_scaler_that_is_not_enabled_is_none():
    model = plain()
    optimizer, disabled = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu", enabled=False)
    with degradation.record(model, every=10) as rec:
        for step in range(25):
            x = torch.randn(16, 8) * (math.nan if step == 20 else 1)
            optimizer.zero_grad()
            disabled.scale(model(x).square().mean()).backward()
            disabled.step(optimizer)
            disabled.update()
    assert "not finite since step 20: first the input of 0" in rec.summary()
    assert "GradScaler" not in rec.summary()
