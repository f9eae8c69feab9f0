"""Arithmetic of models with one start: equal to the formulas of the papers, written out with full bases."""

import pytest
import torch
from clinvit.core.errors import UserError
from clinvit.finetune.merging import METHODS, average, joined_heads, orthogonal, task_arithmetic, ties

LINEAR = {"wide.weight", "tall.weight"}


def weights(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Weights of a start (scale 1), or what a model adds to them."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "wide.weight": (6, 10),
        "wide.bias": (6,),
        "tall.weight": (9, 4),
        "norm.weight": (6,),
        "pos": (1, 2, 6),
    }
    return {name: scale * torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


def moved(start, seed: int, scale: float = 0.1):
    return {name: start[name] + value for name, value in weights(seed, scale).items()}


def length(a, b) -> float:
    return float(torch.cat([(a[name] - b[name]).flatten() for name in b]).norm())


def under(tensors, group: str):
    """Return what stands under a group's name, without it."""
    return {name.removeprefix(f"{group}/"): value for name, value in tensors.items() if name.startswith(f"{group}/")}


def written_out(start, models, alpha):
    """OPCM as published: full singular bases, the merged model shortened after each step."""
    merged, norms, factor = models[0], [length(models[0], start)], 1.0
    for model in models[1:]:
        norms.append(length(model, start))
        mean, new = sum(norms) / len(norms), {}
        for name, w0 in start.items():
            task = model[name] - w0
            if name in LINEAR:
                u, s, vh = torch.linalg.svd(merged[name] - w0)
                split = int((s.cumsum(0) / s.sum() > alpha).float().argmax())
                inner = u.T @ task @ vh.T
                inner.diagonal().fill_(0)
                inner[:split, :split] = 0
                task = u @ inner @ vh
            new[name] = w0 + factor * (merged[name] - w0) + task
        factor = length(new, start) / mean
        merged = {name: w0 + (new[name] - w0) / factor for name, w0 in start.items()}
    return merged


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_orthogonal_is_the_published_formula(alpha):
    start = weights(0)
    models = [moved(start, 1), moved(start, 2, 0.2), moved(start, 3)]
    found = orthogonal(start, iter(models), LINEAR, alpha)
    for name, value in written_out(start, models, alpha).items():
        torch.testing.assert_close(found.weights[name], value, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "run", ["orthogonal-0.0", "orthogonal-0.5", "orthogonal-0.9", "average", "task-arithmetic", "ties"]
)
def test_merges_equal_the_published_package(golden, run):
    """fusion_bench's numbers in float64, with its factors of task arithmetic (0.3) and TIES (20 %, 0.5)."""
    kept = golden("fusion_bench_merges")
    start, *models = (under(kept.inputs, name) for name in ("start", *kept.meta["models"]))
    method, *alpha = run.rsplit("-", 1) if run.startswith("orthogonal") else [run]
    linear = {name for name in start if name in ("wide.weight", "tall.weight", "square.weight")}
    options = {"linear": linear, "alpha": float(alpha[0])} if alpha else {}
    found = METHODS[method](start, iter(models), **options).weights
    expected = under(kept.outputs, run)
    assert found.keys() == expected.keys() and len(linear) == 3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)


def test_the_merged_model_is_as_far_from_the_start_as_the_models_are_on_average():
    start = weights(0)
    found = orthogonal(start, [moved(start, seed, 0.05 * seed) for seed in (1, 2, 3, 4)], LINEAR)
    assert length(found.weights, start) == pytest.approx(sum(found.norms) / 4, rel=1e-12)
    assert len(found.factors) == 4 and found.factors[0] == 1


def test_one_model_stays_itself_and_one_that_learned_nothing_changes_only_the_length():
    start = weights(0)
    one = moved(start, 1)
    torch.testing.assert_close(orthogonal(start, [one], LINEAR).weights, one, atol=1e-14, rtol=0)
    found = orthogonal(start, [one, dict(start)], LINEAR).weights
    for name in start:
        torch.testing.assert_close(found[name] - start[name], (one[name] - start[name]) / 2, atol=1e-12, rtol=0)


def test_what_follows_a_model_that_learned_nothing_is_kept_whole():
    start = weights(0)
    two = moved(start, 2)
    found = orthogonal(start, [dict(start), two], LINEAR).weights
    for name in start:
        torch.testing.assert_close(found[name] - start[name], (two[name] - start[name]) / 2, atol=1e-12, rtol=0)


def test_baselines():
    start = weights(0)
    models = [moved(start, 1), moved(start, 2), moved(start, 3)]
    for name, w0 in start.items():
        mean = torch.stack([model[name] for model in models]).mean(0)
        total = sum(model[name] - w0 for model in models)
        torch.testing.assert_close(average(start, iter(models)).weights[name], mean)
        torch.testing.assert_close(task_arithmetic(start, iter(models), 0.3).weights[name], w0 + 0.3 * total)


def test_ties_keeps_the_largest_where_signs_agree():
    start = {"w": torch.zeros(5, dtype=torch.float64)}
    values = torch.tensor([[5, -4, 3, 0.1, 0], [4, 6, 0.2, -0.1, 3.5]], dtype=torch.float64)
    found = ties(start, [{"w": row} for row in values], kept=0.6, coefficient=0.5).weights["w"]
    # As fusion_bench: what is at least as large as the largest of those to be left out.
    assert found.tolist() == pytest.approx([4.5, 3.0, 1.6, 0.05, 1.75])


@pytest.mark.parametrize("method", [average, task_arithmetic, ties, lambda a, b: orthogonal(a, b, LINEAR)])
def test_precision_stays_and_broken_weights_are_refused(method):
    start = {name: value.float() for name, value in weights(0).items()}
    models = [{name: value.float() for name, value in moved(start, seed).items()} for seed in (1, 2)]
    assert all(value.dtype == torch.float32 for value in method(start, models).weights.values())
    models[1]["tall.weight"][0, 0] = torch.nan
    with pytest.raises(UserError, match=r"tall\.weight"):
        method(start, models)
    with pytest.raises(UserError, match="architecture"):
        method(start, [{**models[0], "pos": torch.zeros(1, 3, 6)}, models[0]])


def test_heads_join_by_label():
    a = (("Mass", "Edema"), torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([1.0, 2]))
    b = (("Edema", "Hernia"), torch.tensor([[5.0, 6], [7, 8]]), torch.tensor([4.0, 8]))
    labels, weight, bias = joined_heads([a, b])
    assert labels == ["Mass", "Edema", "Hernia"]
    assert weight.tolist() == [[1, 2], [4, 5], [7, 8]] and bias.tolist() == [1, 3, 8]
