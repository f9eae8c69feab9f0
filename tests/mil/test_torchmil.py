"""The same weights give the same outputs in torchmil, an independent implementation (test-only peer)."""

import pytest
import torch
from clinvit.mil.recipe import Mil, build_aggregator

models = pytest.importorskip("torchmil.models")


def batch(width):
    torch.manual_seed(0)
    return torch.randn(3, 20, width), torch.arange(20) < torch.tensor([20, 7, 1])[:, None]


@pytest.mark.parametrize("gated", [False, True])
def test_attention_pooling(gated):
    ours = build_aggregator(Mil(aggregator="gated_attention" if gated else "attention", attention=16), 12, 1).eval()
    theirs = models.ABMIL(in_shape=(12,), att_dim=16, gated=gated).eval()
    names = {"fc1.module": ours.attention.v, "fc_gated.module": ours.attention.u}
    mapped = {
        f"pool.{name}.{key}": value
        for name, layer in names.items()
        if layer
        for key, value in layer.state_dict().items()
    }
    mapped["pool.fc2.weight"] = ours.attention.w.weight  # its bias is the same for all instances: of no account
    mapped |= {f"classifier.module.{key}": value for key, value in ours.head.state_dict().items()}
    theirs.load_state_dict(mapped, strict=True)
    features, mask = batch(12)
    out = ours(features, mask)
    logits, scores = theirs(features, mask, return_att=True)
    torch.testing.assert_close(out.logits.squeeze(1), logits, atol=1e-5, rtol=1e-5)
    real = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
    torch.testing.assert_close(out.attention.squeeze(1), real, atol=1e-5, rtol=1e-4)


def test_dual_stream():
    ours = build_aggregator(Mil(aggregator="dsmil"), 12, 1).eval()
    theirs = models.DSMIL(in_shape=(12,), att_dim=128, nonlinear_q=True).eval()
    state = ours.state_dict()
    mapped = {
        key.replace("b_classifier.q", "q_nn").replace("i_classifier.fc.0", "inst_classifier"): value
        for key, value in state.items()
        if "fcc" not in key
    }
    mapped["bag_classifier.weight"] = state["b_classifier.fcc.weight"].squeeze(0)
    mapped["bag_classifier.bias"] = state["b_classifier.fcc.bias"]
    theirs.load_state_dict(mapped, strict=True)
    features, _ = batch(12)  # torchmil looks for the critical instance at padding too, so bags are compared whole
    out = ours(features)
    logits, attention, instances = theirs(features, return_att=True, return_inst_pred=True)
    torch.testing.assert_close(out.logits.squeeze(1), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.attention.squeeze(1), attention.squeeze(2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.instance_logits.squeeze(2), instances, atol=1e-5, rtol=1e-5)
