"""Relevance through a ViT: equal to lxt's, conserved where nothing has a bias, and nothing is changed for good."""

import pytest
import torch
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.backbone.vit import ViT
from clinvit.compress.lrp import input_relevance, layer_relevance
from clinvit.compress.ranges import best_levels, matmuls, seen_by_layers
from clinvit.compress.sensitivity import layer_sensitivity
from clinvit.core.errors import UserError
from clinvit.finetune.classifier import Classifier

# By patch, of `made` and `images`: lxt 2.1 (explicit functionals, epsilons 1e-12, the identity rule for the softmax),
# in float64, summed over the pixels of each patch. Relevance starts as the logits.
LXT = [
    -0.21203890504155598, 0.17520906647032386, -0.15146272458756405, 0.011974695717705541,
    -0.05388139562790062, -0.13280504212087121, 0.010872447874200275, -0.14060065994871035,
]  # fmt: skip


def made(biases=True, **fields):
    """A ViT whose weights a formula gives."""
    arch = Architecture(8, 2, 2, image_size=(8, 8), patch_size=4, class_token=False, **fields)
    network = Classifier(ViT(arch, final_norm=False), 3).double().eval()
    with torch.no_grad():
        for place, (name, value) in enumerate(network.named_parameters()):
            wave = torch.sin(1.7 * torch.arange(value.numel(), dtype=torch.float64).view(value.shape) + place) * 0.5
            value.copy_(1 + 0.3 * wave if "norm" in name and name.endswith("weight") else wave)
            if not biases and (name.endswith("bias") or name.endswith("pos_embed")):
                value.zero_()
    return network


def images():
    return torch.cos(torch.arange(128, dtype=torch.float64)).view(2, 1, 8, 8) * 1.5


def test_relevance_is_that_of_lxt():
    logits, relevance = input_relevance(made(), images())
    patches = relevance.reshape(2, 2, 4, 2, 4).sum(dim=(2, 4)).flatten()
    torch.testing.assert_close(patches, torch.tensor(LXT, dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(logits, made()(images()))


def test_without_biases_all_of_the_logits_is_relevance_of_the_input():
    logits, relevance = input_relevance(made(biases=False), images())
    torch.testing.assert_close(relevance.sum(dim=(1, 2, 3)), logits.sum(dim=1), rtol=1e-3, atol=0)
    assert logits.sum(dim=1).abs().min() > 0.1


def test_layers_share_the_relevance_and_the_network_stays_as_it_was():
    network, x = made(), images()
    with torch.inference_mode():
        wanted = network(x)
    shares = layer_relevance(network, x, matmuls(network))
    assert list(shares) == list(matmuls(network)) and sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    with torch.inference_mode():
        torch.testing.assert_close(network(x), wanted, atol=0, rtol=0)
    assert not any("forward" in vars(part) for part in network.modules())


@pytest.mark.parametrize(
    "fields", [{"positions": "none", "rotary": Rotary("centred", 100.0, halves=True)}, {"gated_mlp": True}]
)
def test_networks_without_rules_are_named(fields):
    network = made(**fields)
    with pytest.raises(UserError, match="no rule for"):
        layer_relevance(network, images(), matmuls(network))


@pytest.mark.parametrize("method", ["measured", "relevance"])
def test_layers_are_ordered_by_what_they_cost(method):
    network, x = made(), images()
    levels = {name: best_levels(seen) for name, seen in seen_by_layers(network, x, matmuls(network))}
    found = layer_sensitivity(network, x, levels, method)
    assert list(found.values()) == sorted(found.values(), reverse=True) and found.keys() == levels.keys()
    with pytest.raises(UserError, match="one of measured, relevance"):
        layer_sensitivity(network, x, levels, "guessed")


def test_a_layer_with_rough_weights_is_the_most_sensitive_one():
    network, x = made(), images()
    with torch.no_grad():  # one weight takes the range of its whole row
        network.encoder.blocks[1].mlp.fc1.weight[:, 0] = 300
        network.encoder.blocks[1].norm2.weight[0] = 0
        network.encoder.blocks[1].norm2.bias[0] = 0
    levels = {name: best_levels(seen) for name, seen in seen_by_layers(network, x, matmuls(network))}
    assert next(iter(layer_sensitivity(network, x, levels))) == "encoder.blocks.1.mlp.fc1"
