"""A head that knows of contexts: the mixture's formula, what it learns, and the same stages without any metadata."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.documents import read_json
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune import finetune
from clinvit.finetune.context_head import ContextHead, mixed
from clinvit.finetune.contexts import context_rows, context_words, contexts_of
from clinvit.finetune.model import load_card, load_model
from clinvit.finetune.starts import find_start
from clinvit.finetune.workload import workload
from scipy.special import expit, logit, softmax
from scipy.stats import rankdata
from torch.nn import functional as F

DRAW = np.random.default_rng(0)
CONTEXTS, LABELS = DRAW.normal(0, 2, (7, 3)), DRAW.normal(0, 2, (7, 3, 4))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_mixture_is_the_formula(balanced):
    weights = np.full((7, 3), 1 / 3) if balanced else softmax(CONTEXTS, axis=1)
    given = torch.tensor(CONTEXTS), torch.tensor(LABELS)
    wanted = (weights[:, :, None] * expit(LABELS)).sum(axis=1)
    np.testing.assert_allclose(mixed(*given, balanced, exclusive=False).numpy(), logit(wanted), atol=2e-6)
    wanted = (weights[:, :, None] * softmax(LABELS, axis=2)).sum(axis=1)
    np.testing.assert_allclose(mixed(*given, balanced, exclusive=True).exp().numpy(), wanted, atol=1e-6)


def test_contexts_that_say_nothing_leave_the_plain_head():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    head = ContextHead(8, torch.ones(3, 2), 4, "posterior", False)
    torch.testing.assert_close(head(x), head.shared(x))  # before training no offset is there
    with torch.no_grad():
        head.up.normal_(), head.bias.normal_()
    assert (head(x) - head.shared(x)).abs().max() > 0.01
    head.usable[:, 1] = 0  # too few patients of the second label in each context
    torch.testing.assert_close(head(x)[:, 1], head.shared(x)[:, 1])


def auroc(truth, score):
    rank, positive = rankdata(score), truth.sum()
    return (rank[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive))


def trained(head, x, z, y):
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(250):
        contexts, labels = head.parts(x)
        own = labels[torch.arange(len(x)), z]
        loss = F.binary_cross_entropy_with_logits(own, y[:, None]) + F.cross_entropy(contexts, z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def test_the_worst_view_gains_where_sick_and_bedside_go_together():
    """In training 9 of 10 bedside cases are sick, 1 of 10 others; a finding looks otherwise at the bedside."""

    def cases(seed, chance):
        draw = np.random.default_rng(seed)
        z = draw.integers(0, 2, 2000)
        y = (draw.random(2000) < np.where(z == 1, chance, 1 - chance)).astype(int)
        x = draw.normal(0, 1, (2000, 6))
        x[:, 0] += 2 * z
        x[:, 1] += 1.2 * y * (z == 0)
        x[:, 2] += 1.2 * y * (z == 1)
        return torch.tensor(x, dtype=torch.float32), torch.tensor(z), torch.tensor(y, dtype=torch.float32)

    torch.manual_seed(0)
    (x, z, y), (new, where, truth) = cases(1, 0.9), cases(2, 0.5)
    plain = ContextHead(6, torch.zeros(2, 1), 1, "posterior", False)
    found = {"plain": trained(plain, x, z, y)}
    found["posterior"] = trained(ContextHead(6, torch.ones(2, 1), 2, "posterior", False), x, z, y)
    found["balanced"] = ContextHead(6, torch.ones(2, 1), 2, "balanced", False)
    found["balanced"].load_state_dict(found["posterior"].state_dict())
    worst, gap = {}, {}
    for name, head in found.items():
        score = head(new).detach().numpy()[:, 0]
        parts = [auroc(truth[where == view].numpy(), score[where == view]) for view in (0, 1)]
        worst[name] = min(parts)
        healthy = [expit(score[(where == view) & (truth == 0)]).mean() for view in (0, 1)]
        gap[name] = healthy[1] - healthy[0]
    assert worst["posterior"] > worst["plain"] + 0.03
    # Balanced, the healthy at the bedside are no longer held for sick.
    assert gap["posterior"] > 0.3 and abs(gap["balanced"]) < 0.1


@pytest.fixture
def planted(cohort, small_recipes, tmp_path):
    """A recipe, a manifest with views and scanners of which some are rare or not recorded, and an encoder."""
    _, fine = small_recipes
    path = cohort(80)
    table = pd.read_csv(path)
    view = np.where(np.arange(len(table)) % 4 < 2, "AP", "PA")
    table["view"] = np.where(np.arange(len(table)) % 29 == 3, "", np.where(np.arange(len(table)) == 7, "LL", view))
    table.to_csv(path, index=False)
    arch = fine.model.architecture()
    torch.manual_seed(0)
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,), "mae"))
    recipe = replace(fine, mode="linear", contexts=("view",), optim=replace(fine.optim, epochs=2, layer_decay=1.0))
    return recipe, path, encoder


def test_contexts_go_through_all_stages_and_are_not_needed_at_use(planted, tmp_path, capsys):
    recipe, path, encoder = planted
    finetune(recipe, data=path, out=tmp_path / "run", encoder=encoder)
    assert "contexts by view: AP" in capsys.readouterr().out
    model = tmp_path / "run/model"
    card = load_card(model)
    assert card.contexts["values"] == [["AP"], ["PA"]] and card.contexts["other_cases"] > 0
    assert "a head per view" in card.summary()
    bare = path.parent / "bare.csv"
    pd.read_csv(path, dtype=str).drop(columns="view").to_csv(bare, index=False)
    words = ["--model", model, "--out", tmp_path / "bare.csv"]
    assert main(["predict", "thorax", str(bare), *map(str, words)]) == 0
    own, again = (pd.read_csv(each) for each in (tmp_path / "run/predictions.csv", tmp_path / "bare.csv"))
    both = own.merge(again, on="id")
    np.testing.assert_allclose(both["p_Square_x"], both["p_Square_y"], atol=2e-6)
    plain = replace(recipe, contexts=())
    finetune(plain, data=path, out=tmp_path / "plain", encoder=encoder)
    words = [f"context={tmp_path / 'run'}", f"plain={tmp_path / 'plain'}", "--data", path, "--resamples", 50]
    assert main(["compare", *map(str, words), "--out", str(tmp_path / "report")]) == 0
    within = read_json(tmp_path / "report/report.json")["within"]
    assert {row["group"] for row in within["groups"]} == {"AP", "PA", "not recorded"}
    capsys.readouterr()
    for to in ("timm", "huggingface"):
        assert main(["export", str(model), "--to", to, "--out", str(tmp_path / to)]) == 2
        assert "no such head" in capsys.readouterr().err
    network, _ = load_model(model)
    assert isinstance(network.head, ContextHead)


@pytest.mark.thorough
def test_contexts_are_in_the_exported_graph(planted, tmp_path):
    recipe, path, encoder = planted
    model = finetune(recipe, data=path, out=tmp_path / "run", encoder=encoder).folder
    assert main(["export", str(model), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 0


def test_rare_and_unrecorded_values_are_of_no_context(planted):
    recipe, path, _ = planted
    manifest = read_manifest(path)
    contexts = contexts_of(recipe, manifest)
    rows = context_rows(contexts, manifest.table)
    view = manifest.table["view"].to_numpy()
    assert set(view[rows == 0]) == {"AP"} and set(view[rows == 1]) == {"PA"} and set(view[rows == -1]) <= {"", "LL"}
    lines = context_words(contexts | {"usable": [[1, 0], [1, 1]]}, manifest.labels)
    assert "no context" in lines[1] and lines[2].startswith("note: AP: Bar judged by what is shared")


def test_what_cannot_know_of_contexts_is_refused(planted, tmp_path):
    recipe, path, encoder = planted

    def refused(kind=UserError, **changes):
        with pytest.raises(kind) as caught:
            finetune(replace(recipe, **changes), data=path, out=tmp_path / "run", encoder=encoder)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert "no such column 'vew' (did you mean 'view'?)" in refused(contexts=("vew",))
    assert "no such column 'Square'" in refused(contexts=("Square",))
    assert "frozen encoder" in refused(mode="full")
    assert "mixup" in refused(mixup=0.5)
    assert "context_mix" in refused(context_mix="all")
    table = pd.read_csv(path, dtype=str)
    table.assign(view="PA").to_csv(path, index=False)
    assert "nothing to tell apart" in refused(DataError)


def test_what_a_probe_costs_is_measured_from_one_case_on(planted):
    recipe, _, encoder = planted
    found = workload(recipe, 20, start=find_start(encoder))
    loss = found.loss(found.training(False), found.batch(1))
    assert loss.isfinite()
