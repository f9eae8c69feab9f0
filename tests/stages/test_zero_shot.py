"""Images and their reports: pre-training, then a model of prompts, by the command; what does not fit is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.report_heads import ReportHeads, load_heads
from clinvit.backbone.text import TextEncoder
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.finetune.model import load_card, load_model
from clinvit.pretrain.report_features import ReportFeatures
from clinvit.tests.pretrain.text_folder import write_text_encoder
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

SAYS = {
    "Square": (["There is a bright square on the left.", "Bright square seen."], ["No bright square."]),
    "Bar": (["A dark bar is on the right.", "Dark bar present."], ["No dark bar."]),
}
TEXTS = [text for each in SAYS.values() for texts in each for text in texts]
SMALL = [
    "--recipe", "reports_tiny", "--model.size", "micro", "--model.image_size", 32, "--model.patch_size", 8,
    "--augment.size", 32, "--augment.crop_scale", "[0.8,1]", "--data.cache_px", 40, "--optim.batch_size", 32,
    "--optim.base_lr", 0.016,
    "--run.precision", "32-true", "--run.workers", 0, "--embedding", 32,
]  # fmt: skip


def run(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def archive(tmp_path, cohort):
    """Images whose training cases have reports beside them, all but one, and a text encoder."""
    data = cohort(patients=160)
    table = pd.read_csv(data)
    rng = np.random.default_rng(0)
    rows = []
    for number, case in enumerate(table.itertuples()):
        if case.split != "train" or number == 0:
            continue
        told = [str(rng.choice(SAYS[label][0 if getattr(case, label) == 1 else 1])) for label in SAYS]
        rows.append((case.id, " ".join(rng.permutation(told))))
    pd.DataFrame(rows, columns=["id", "report"]).to_csv(tmp_path / "reports.csv", index=False)
    # Labels are taken away from what is trained on: nothing but the reports knows them.
    hidden = table.assign(**{label: table[label].where(table["split"] != "train") for label in SAYS})
    hidden.astype(dict.fromkeys(SAYS, "Int64")).to_csv(data, index=False)
    return data, tmp_path / "reports.csv", write_text_encoder(tmp_path / "bert", TEXTS)


@pytest.mark.slow
def test_findings_are_judged_by_prompts_without_a_labelled_image(tmp_path, archive, capsys):
    data, reports, text = archive
    command = ["pretrain", "thorax", "--data", data, "--reports", reports, "--text-encoder", text, *SMALL,
               "--optim.epochs", 40, "--out", tmp_path / "run"]  # fmt: skip
    assert run(*command) == 0
    said = capsys.readouterr().out
    cases = (pd.read_csv(data)["split"] == "train").sum()
    assert f"{cases - 1} of {cases} cases have one" in said
    encoder = tmp_path / "run/encoder"
    card = json.loads((encoder / "encoder.json").read_text())
    assert (
        card["method"] == "reports"
        and card["data"]["without_report"] == 1
        and card["data"]["without_report_ids"] == ["000_0"]
        and card["data"]["cases"] == cases - 1
    )
    assert (tmp_path / "run/cosines.png").is_file()
    left = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.json"))
    assert "bright square" not in left.lower()
    kept = list((tmp_path / "report-cache").glob("*.safetensors"))
    assert len(kept) == 1 and kept[0].stat().st_mode & 0o077 == 0

    (tmp_path / "prompts.yaml").write_text(
        "Square:\n  present: [Bright square seen., A bright square on the left.]\n  absent: [No bright square.]\n"
        "Bar:\n  present: [Dark bar present.]\n  absent: [No dark bar.]\n"
    )
    asked = ["zero-shot", encoder, "--text-encoder", text, "--prompts", tmp_path / "prompts.yaml"]
    assert run(*asked, "--out", tmp_path / "zero") == 0
    model = tmp_path / "zero/model"
    assert load_card(model).meaning["Bar"] == "more like 'Dark bar present.' than like 'No dark bar.'"
    assert run("predict", "thorax", data, "--model", model, "--out", tmp_path / "p.csv") == 0
    table = pd.read_csv(tmp_path / "p.csv")
    test = table[table["split"] != "train"]
    for label in SAYS:
        known = test[test[f"y_{label}"].notna()]
        assert roc_auc_score(known[f"y_{label}"], known[f"p_{label}"]) > 0.8, label
    assert run("evaluate", tmp_path / "p.csv", "--out", tmp_path / "report", "--resamples", 50) == 0
    assert run("export", model, "--to", "onnx", "--out", tmp_path / "onnx") == 0
    files = ["predict", "thorax", data.parent / "images"]
    assert run(*files, "--model", tmp_path / "onnx", "--runtime", "onnx", "--out", tmp_path / "graph.csv") == 0
    assert run(*files, "--model", model, "--out", tmp_path / "torch.csv") == 0
    ours, graphs = (pd.read_csv(tmp_path / f"{name}.csv")["p_Bar"] for name in ("torch", "graph"))
    assert len(ours) == len(table) and np.allclose(ours, graphs, atol=1e-4)


def test_the_head_is_clips_softmax_over_both_prompts(tmp_path, archive):
    data, reports, text = archive
    assert run("pretrain", "thorax", "--data", data, "--reports", reports, "--text-encoder", text, *SMALL,
               "--optim.epochs", 1, "--optim.warmup_epochs", 0, "--loss", "siglip", "--text", "report",
               "--out", tmp_path / "run") == 0  # fmt: skip
    assert run("zero-shot", tmp_path / "run/encoder", "--text-encoder", text, "--labels", "Bright_square,Bar", "--out",
               tmp_path / "zero") == 0  # fmt: skip
    model = load_model(tmp_path / "zero/model")[0].eval()
    heads, card = load_heads(tmp_path / "run/encoder")
    vectors = torch.from_numpy(TextEncoder(text, card.text_tokens, card.text_pool).vectors(
        ["bright square", "no bright square", "bar", "no bar"]))  # fmt: skip
    with torch.no_grad():
        x = torch.randn(3, 1, 32, 32)
        images = heads.of_images(model.features(x))
        cosines = heads.scale * images @ heads.of_texts(vectors).T
        expected = cosines.view(3, 2, 2).softmax(dim=2)[..., 0]
        assert torch.allclose(model(x).sigmoid(), expected, atol=1e-5)
        assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-6)


def test_an_interrupted_run_goes_on_with_the_vectors_that_it_made(tmp_path, archive):
    data, reports, text = archive
    command = ["pretrain", "thorax", "--data", data, "--reports", reports, "--text-encoder", text, *SMALL,
               "--optim.warmup_epochs", 0]  # fmt: skip
    assert run(*command, "--optim.epochs", 2, "--out", tmp_path / "whole") == 0
    assert run(*command, "--optim.epochs", 1, "--optim.schedule", "constant", "--out", tmp_path / "part") == 0
    assert run(*command, "--optim.epochs", 2, "--optim.schedule", "constant", "--out", tmp_path / "part") == 0
    assert run(*command, "--optim.epochs", 2, "--optim.schedule", "constant", "--out", tmp_path / "once") == 0
    part, once = ((tmp_path / name / "encoder/encoder.safetensors").read_bytes() for name in ("part", "once"))
    assert part == once
    assert len(list((tmp_path / "report-cache").glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "reports_tiny"], "--text-encoder"),
        (["--recipe", "tiny", "--text-encoder", "bert"], "leave it out"),
        (["--recipe", "reports_tiny", "--text-encoder", "empty"], "not a text encoder"),
        (["--recipe", "reports_tiny", "--text-encoder", "coded"], "code of its own"),
        (["--recipe", "reports_tiny", "--text-encoder", "huge"], "asks for"),
        (["--recipe", "reports_tiny", "--text-encoder", "bert", "--optim.accumulate", "2"], "accumulate"),
        (["--recipe", "reports_tiny", "--text-encoder", "bert", "--loss", "clip"], "infonce or siglip"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, monkeypatch, cohort, capsys, words, said):
    data = cohort(patients=10)
    monkeypatch.chdir(tmp_path)
    pd.read_csv(data).assign(report="Normal.").to_csv(data, index=False)
    text = write_text_encoder(Path("bert"), TEXTS)
    Path("empty").mkdir()
    for name, change in (("coded", {"auto_map": {"AutoModel": "own.Model"}}), ("huge", {"hidden_size": 2**14})):
        shutil.copytree(text, name)
        config = json.loads((text / "config.json").read_text())
        (Path(name) / "config.json").write_text(json.dumps(config | change))
    assert run("pretrain", "thorax", "--data", data, "--out", "run", *words) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "Traceback" not in error
    assert not Path("run").exists()


def test_prompts_of_another_text_encoder_are_refused(tmp_path, archive, capsys):
    data, reports, text = archive
    assert run("pretrain", "thorax", "--data", data, "--reports", reports, "--text-encoder", text, *SMALL,
               "--optim.epochs", 1, "--optim.warmup_epochs", 0, "--out", tmp_path / "run") == 0  # fmt: skip
    other = write_text_encoder(tmp_path / "other", [*TEXTS, "one more word"])
    zero = ["zero-shot", tmp_path / "run/encoder", "--out", tmp_path / "zero"]
    assert run(*zero, "--text-encoder", other, "--labels", "Bar") == 2
    assert "another text encoder" in capsys.readouterr().err
    assert run(*zero, "--text-encoder", text) == 2
    (tmp_path / "prompts.yaml").write_text("Bar:\n  present: [bar]\n")
    assert run(*zero, "--text-encoder", text, "--prompts", tmp_path / "prompts.yaml") == 2
    assert "`present` and `absent`" in capsys.readouterr().err
    assert run(*zero, "--text-encoder", text, "--prompts", tmp_path / "prompts.yaml", "--exclusive") == 2


def test_an_encoder_without_reports_has_no_heads(tmp_path):
    with pytest.raises(UserError, match=r"clinvit pretrain --reports"):
        load_heads(tmp_path)


def test_text_vectors_do_not_depend_on_their_company(tmp_path):
    text = write_text_encoder(tmp_path / "bert", TEXTS)
    for pool in ("mean", "class"):
        encoder = TextEncoder(text, 40, pool)
        together = encoder.vectors(TEXTS, batch=3)
        alone = np.concatenate([encoder.vectors([each]) for each in TEXTS])
        assert np.allclose(together, alone, atol=1e-5)
    assert F.cosine_similarity(*map(torch.from_numpy, (together[:1], together[1:2]))).item() < 0.999


def test_the_cost_is_estimated_without_text_or_reports(capsys):
    words = ["pretrain", "thorax", *SMALL, "--estimate", "--cases", 64]
    assert run(*words) == 0 and run(*words, "--text", "report") == 0
    assert "cases at once" in capsys.readouterr().out


def test_equal_reports_are_one_text_and_the_scale_has_a_limit():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    wholes, of_case = ReportFeatures(vectors, ((0, 1), (2,), (1, 0)), "", "").wholes()
    assert of_case == ((0,), (1,), (0,)) and wholes.tolist() == [[1, 2], [4, 5]]
    heads = ReportHeads(4, 2, 3, temperature=0.001)
    heads.limit_scale()
    assert heads.scale.item() == pytest.approx(100)
