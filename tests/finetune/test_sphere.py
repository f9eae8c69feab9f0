"""Features on the unit sphere: the two losses and the arc are their formulas, and only norms of the encoder learn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import load_encoder, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.finetune import finetune
from clinvit.finetune.model import load_card, load_model
from clinvit.finetune.sphere import UnitLength, alignment, alike, slerp, uniformity
from torch.nn import functional as F

NAN = float("nan")


def unit(n: int, d: int = 5, seed: int = 0, dtype=torch.float64):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=1)


def test_alignment_and_uniformity_are_their_formulas():
    z = unit(6)
    target = torch.tensor([[1.0, 0], [1, 0], [0, 0], [1, NAN], [1, 0], [0, 0]])
    pairs = [(0, 1), (0, 4), (1, 4), (2, 5)]  # the unknown answer leaves its case out
    wanted = np.mean([float(((z[i] - z[j]) ** 2).sum()) for i, j in pairs])
    assert float(alignment(z, alike(target))) == pytest.approx(wanted, abs=1e-12)
    kernel = [float((-2 * ((z[i] - z[j]) ** 2).sum()).exp()) for i in range(6) for j in range(i + 1, 6)]
    assert float(uniformity(z)) == pytest.approx(np.log(np.mean(kernel)), abs=1e-12)
    assert float(alignment(z, alike(torch.eye(6)))) == 0.0
    assert float(uniformity(torch.eye(6, dtype=torch.float64) * torch.tensor(1.0))) > np.log(1e-6)
    assert float(uniformity(z[:1])) == 0.0


def test_the_arc_is_walked_evenly_and_equal_vectors_stay():
    a, b = unit(4, seed=1), unit(4, seed=2)
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    made = slerp(a, b, t)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(4, dtype=torch.float64))
    whole = (a * b).sum(dim=1).acos()
    torch.testing.assert_close((a * made).sum(dim=1).clamp(-1, 1).acos(), t * whole, atol=1e-7, rtol=0)
    same = a.clone().float().requires_grad_()
    kept = slerp(same, a.float(), t.float())
    torch.testing.assert_close(kept, a.float(), atol=1e-6, rtol=0)
    kept.sum().backward()
    assert same.grad.isfinite().all()


@pytest.fixture
def sphere(cohort, small_recipes, tmp_path):
    """A recipe with all terms, a manifest and an encoder."""
    _, fine = small_recipes
    arch = fine.model.architecture()
    torch.manual_seed(0)
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,), "mae"))
    optim = replace(fine.optim, epochs=2, layer_decay=1.0)
    recipe = replace(fine, mode="norm", head_norm="l2", alignment=0.1, uniformity=0.5, slerp=1.0, optim=optim)
    return recipe, cohort(30), encoder


def test_only_norms_and_the_head_learn_and_all_stages_go_on(sphere, tmp_path, capsys):
    recipe, path, encoder = sphere
    finetune(recipe, data=path, out=tmp_path / "run", encoder=encoder)
    model, card = load_model(tmp_path / "run/model")
    assert card.head_norm == "l2"
    x = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = model.fc_norm(model.features(x))
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    start = ViT(card.arch, final_norm=False)
    load_encoder(start, encoder)
    before, after = start.state_dict(), model.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("norm" in name for name in changed)
    words = [path, "--model", tmp_path / "run/model", "--out", tmp_path / "again.csv"]
    assert main(["predict", "thorax", *map(str, words)]) == 0
    own, again = (pd.read_csv(each) for each in (tmp_path / "run/predictions.csv", tmp_path / "again.csv"))
    both = own.merge(again, on="id")
    np.testing.assert_allclose(both["p_Square_x"], both["p_Square_y"], atol=2e-6)
    capsys.readouterr()
    for to in ("timm", "huggingface"):
        assert main(["export", str(tmp_path / "run/model"), "--to", to, "--out", str(tmp_path / to)]) == 2
        assert "no such head" in capsys.readouterr().err
    base = f"base={encoder}"
    words = ["merge", base, f"a={tmp_path / 'run'}", f"b={tmp_path / 'run'}", "--out", tmp_path / "merged"]
    assert main([*map(str, words)]) == 2
    assert "plain head" in capsys.readouterr().err


def test_the_class_token_and_one_term_alone(sphere, tmp_path):
    recipe, path, encoder = sphere
    alone = replace(recipe, pool="class", alignment=0.0, uniformity=0.0, slerp=0.0)
    finetune(
        replace(alone, optim=replace(alone.optim, epochs=1, warmup_epochs=0)),
        data=path,
        out=tmp_path / "one",
        encoder=encoder,
    )
    model, _ = load_model(tmp_path / "one/model")
    assert isinstance(model.fc_norm[-1], UnitLength) and load_card(tmp_path / "one/model").pool == "class"


def test_what_has_no_sphere_is_refused(sphere, tmp_path):
    recipe, path, encoder = sphere

    def refused(**changes):
        with pytest.raises(UserError) as caught:
            finetune(replace(recipe, **changes), data=path, out=tmp_path / "run", encoder=encoder)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert "--head_norm l2" in refused(head_norm="none")
    assert "mode norm" in refused(mode="full")
    assert "mixup" in refused(mixup=0.2)
    assert "head_norm is" in refused(head_norm="l3")
