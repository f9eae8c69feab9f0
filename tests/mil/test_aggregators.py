"""Every aggregator: padding and order do not matter, one instance is a bag, gradients are finite, labels may lack."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from clinvit.core.errors import UserError
from clinvit.finetune.losses import masked_bce, masked_cross_entropy
from clinvit.mil import abmil, dsmil, transmil
from clinvit.mil import aggregator as chunks
from clinvit.mil.aggregator import Standardised
from clinvit.mil.clam import Clam
from clinvit.mil.dsmil import DualStream, max_stream
from clinvit.mil.nystrom import NystromLayer, pseudo_inverse
from clinvit.mil.recipe import AGGREGATORS, Mil, build_aggregator
from clinvit.mil.score import bag_logits, instance_scores
from clinvit.mil.transmil import PyramidPositions, TransMil
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTH = 12
every = pytest.mark.parametrize("name", AGGREGATORS)


def small(name: str, classes: int = 2, **fields):
    torch.manual_seed(1)
    hidden = {"hidden": 16} if name in ("transmil", "clam_sb", "clam_mb") else {}
    return build_aggregator(Mil(aggregator=name, **(hidden | fields)), WIDTH, classes)


def batch(sizes, seed=0):
    """Padded features with garbage at the padding, and the mask."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(len(sizes), max(sizes), WIDTH, generator=draw)
    return features, torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]


@every
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_padded_batch_is_its_bags(name, sizes, seed):
    model, (features, mask) = small(name).eval(), batch(sizes, seed)
    together = model(features, mask)
    assert together.logits.shape == (len(sizes), 2)
    for i, size in enumerate(sizes):
        alone = model(features[i : i + 1, :size])
        torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.attention[i, :, :size], alone.attention[0], atol=1e-5, rtol=1e-4)
        assert not together.attention[i, :, size:].any()
        if alone.instance_logits is not None:
            torch.testing.assert_close(
                together.instance_logits[i, :size], alone.instance_logits[0], atol=1e-5, rtol=1e-5
            )
    torch.testing.assert_close(together.attention.sum(dim=2), torch.ones(together.attention.shape[:2]))


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if name != "transmil"])
@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 60), seed=st.integers(0, 99))
def test_the_order_of_instances_does_not_matter(name, size, seed):
    model, (features, _) = small(name).eval(), batch([size], seed)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    one, other = model(features), model(features[:, order])
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.attention[:, :, order], other.attention, atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("exclusive", [False, True])
def test_gradients_are_finite_and_reach_every_weight(name, exclusive):
    model, (features, mask) = small(name).train(), batch([30, 1, 7])
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    if not exclusive:
        target[0, 1] = torch.nan
    criterion = masked_cross_entropy if exclusive else masked_bce
    loss = model.loss(model(features, mask), target, mask, criterion)
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@every
def test_unknown_labels_have_no_say(name):
    model, (features, mask) = small(name).eval(), batch([9, 4])
    target = torch.tensor([[1.0, torch.nan], [0.0, torch.nan]])
    changed = model(features, mask)
    loss = model.loss(changed, target, mask, masked_bce)
    changed.logits = changed.logits + torch.tensor([0.0, 5.0])
    assert model.loss(changed, target, mask, masked_bce) == loss
    nothing = torch.full_like(target, torch.nan)
    assert model.loss(changed, nothing, mask, masked_bce) == 0


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_any_floating_type(name, dtype):
    model, (features, mask) = small(name).eval(), batch([20, 3])
    exact = model(features, mask).logits
    torch.testing.assert_close(model(features.to(dtype), mask).logits, exact, atol=0.05, rtol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(features.half(), mask)
    assert torch.isfinite(rounded.logits).all() and torch.isfinite(rounded.attention).all()


@pytest.mark.parametrize(("name", "file"), [("dsmil", "dsmil_original"), ("self_vit_mil", "self_vit_mil_aggregator")])
def test_dual_stream_is_the_official_one(name, file, golden):
    reference = golden(file)
    model = build_aggregator(Mil(aggregator=name), 24, 2).eval()
    model.load_state_dict(reference.state, strict=True)
    out = model(reference.inputs["bag"][None])
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(out.instance_logits[0], reference.outputs["instance_logits"], **close)
    torch.testing.assert_close(out.logits, reference.outputs["bag_logits"], **close)
    torch.testing.assert_close(out.attention[0].T, reference.outputs["attention"], **close)


def test_dual_stream_loss_is_half_of_each_stream():
    model, (features, mask) = DualStream(WIDTH, 1).eval(), batch([8, 3])
    out, target = model(features, mask), torch.tensor([[1.0], [0.0]])
    streams = [masked_bce(out.logits, target), masked_bce(max_stream(out, mask), target)]
    torch.testing.assert_close(model.loss(out, target, mask, masked_bce), sum(streams) / 2)
    largest = torch.stack([out.instance_logits[0].max(), out.instance_logits[1, :3].max()])[:, None]
    torch.testing.assert_close(bag_logits(out, mask, "average"), (out.logits + largest) / 2)


def test_clam_takes_the_most_and_the_least_attended():
    model, (features, mask) = Clam(WIDTH, 1, hidden=0, top=2, dropout=0.0).eval(), batch([6, 3])
    out = model(features, mask)
    order = out.attention[0, 0].argsort(descending=True)
    logits = out.instance_logits[0, :, 0]
    hinge = torch.nn.functional.softplus
    expected = torch.cat([hinge(1 - logits[order[:2]]), hinge(1 + logits[order[-2:]])]).mean()
    one, known = torch.tensor([[1.0], [torch.nan]]), torch.tensor([[torch.nan], [0.0]])
    torch.testing.assert_close(model.clustering_loss(out, one, mask), expected)
    # A bag of three without the class: its single most attended instance is an example of absence.
    most = out.instance_logits[1, out.attention[1, 0].argmax(), 0]
    torch.testing.assert_close(model.clustering_loss(out, known, mask), hinge(1 + most))


def test_chunks_change_nothing(monkeypatch):
    features, _ = batch([70])
    target = torch.tensor([[1.0, 0.0]])
    for name in AGGREGATORS:
        gradients = []
        for size in (10_000, 27):
            for module in (chunks, abmil, dsmil, transmil):
                if module in (chunks, transmil):
                    monkeypatch.setattr(module, "WHOLE", size)
                monkeypatch.setattr(module, "CHUNK", size)
            model = small(name, dropout=0.0).train()
            model.loss(model(features), target, None, masked_bce).backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        for one, other in zip(*gradients):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


def test_nystrom_comes_close_to_exact_attention():
    torch.manual_seed(0)
    layer, x = NystromLayer(32, landmarks=48).eval(), torch.randn(1, 96, 32).cumsum(dim=1) / 10
    exact, approximate = layer._exact([x], False, False)[0][0] - x, layer._nystrom([x], False, False)[0][0] - x
    assert (exact - approximate).norm() < 0.1 * exact.norm()
    (first,), weights = layer._nystrom(x.split(40, dim=1), True, True)
    torch.testing.assert_close(first[:, 0] - x[:, 0], approximate[:, 0], atol=1e-5, rtol=1e-4)
    assert (weights[0] - layer._exact([x], True, True)[1][0]).abs().sum() < 0.2


def test_pseudo_inverse():
    a = torch.eye(8)[None] + 0.1 * torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pseudo_inverse(a), torch.linalg.pinv(a), atol=1e-3, rtol=1e-3)


def test_the_position_generator_is_three_convolutions_and_the_identity():
    torch.manual_seed(0)
    positions, x = PyramidPositions(4), torch.randn(2, 25, 4)
    square = x.transpose(1, 2).unflatten(2, (5, 5))
    expected = (square + sum(layer(square) for layer in positions.layers)).flatten(2).transpose(1, 2)
    for rows in (5, 3):
        torch.testing.assert_close(torch.cat(positions(x.split(5 * rows, dim=1), 5), dim=1), expected)


def test_attention_of_transmil_lies_on_the_instances():
    torch.manual_seed(0)
    model = TransMil(WIDTH, 1, hidden=16).eval()
    for size in (1, 2, 5, 300):
        out = model(torch.randn(1, size, WIDTH))
        assert out.attention.shape == (1, 1, size) and (out.attention >= 0).all()


@every
def test_instance_scores_are_within_0_and_1(name):
    model = small(name, 1).eval()
    out = model(batch([20])[0])
    scores = instance_scores(out, torch.tensor([[0.2]]), model.localise)
    assert scores.shape == (1, 20, 1) and (scores >= 0).all() and (scores <= 1).all()
    if model.localise == "attention":
        assert scores.max().item() == pytest.approx(0.2), "a healthy bag has no hot instance"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"aggregator": "abmil"}, "aggregator 'abmil': one of mean"),
        ({"aggregator": "mean", "score": "average"}, "for two streams"),
        ({"aggregator": "max", "attention": 64}, "no attention width"),
        ({"aggregator": "dsmil", "instance_loss": "ce"}, "belong to CLAM"),
        ({"aggregator": "transmil", "hidden": 12}, "multiple of 8"),
        ({"instance_dropout": 1.0}, "instance_dropout 1 is out of range: a number from 0 to below 1"),
        ({"max_instances": 0}, "from 1 on"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(UserError, match=words):
        Mil(**fields)


# The high-water mark of this program alone: `resource.getrusage` would count the parent's before the exec, too.
TRAIN_LARGE = """
import pathlib, re, sys, torch
from clinvit.finetune.losses import masked_bce
from clinvit.mil.recipe import Mil, build_aggregator
torch.set_num_threads(1)
torch.manual_seed(0)
model = build_aggregator(Mil(aggregator=sys.argv[1]), 768, 1).train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
features = torch.empty(1, 100_000, 768, dtype=torch.float16)
for piece in features[0].split(10_000):
    piece.copy_(torch.randn(len(piece), 768))
with torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[1] == "transmil"):
    loss = model.loss(model(features), torch.ones(1, 1), None, masked_bce)
loss.backward()
optimizer.step()
assert torch.isfinite(loss)
status = pathlib.Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "gated_attention" else pytest.mark.thorough)
        for name in AGGREGATORS
    ],
)
def test_a_bag_of_100000_trains_within_2_gib(name):
    """TransMIL in bf16 only, and with an allocator that gives freed blocks back (in 32 bits it takes 2.1 GiB)."""
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "1000000"} if name == "transmil" else {})
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_LARGE, name], capture_output=True, text=True, timeout=600, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.float64(done.stdout) < 2, f"{name}: {done.stdout} GiB"


def test_standardised_features_are_those_of_the_training_bags():
    torch.manual_seed(0)
    bags = [np.float16(np.random.default_rng(i).normal(3, 5, (40, WIDTH))) for i in range(5)]
    inner = small("gated_attention", 1)
    model = Standardised(inner, WIDTH).eval()
    model.fit(bags)
    x = torch.from_numpy(np.concatenate(bags))[None].float()
    scaled = (x - x.mean(1)) / x.std(1, correction=0)
    torch.testing.assert_close(model(x).logits, inner.eval()(scaled).logits, atol=1e-4, rtol=0)
    assert model.localise == inner.localise
