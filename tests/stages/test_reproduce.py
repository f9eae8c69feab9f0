"""`clinvit reproduce`: rows run, continue, fail and start from given weights; what is written says what it is."""

import csv
import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import RunError, UserError
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval.statistics.intervals import Estimate
from clinvit.finetune.model import load_model
from clinvit.finetune.new_card import make_card
from clinvit.finetune.start_head import StartHead
from clinvit.finetune.training import FineTuning
from clinvit.finetune.workload import NO_CASES
from clinvit.stages.reproduce import catalogue, plan, run
from clinvit.stages.reproduce.cost import Cost, costed, read_cost, total
from clinvit.stages.reproduce.download import fetch
from clinvit.stages.reproduce.measured import measured
from clinvit.stages.reproduce.metrics import Measured, read_metrics, write_metrics
from clinvit.stages.reproduce.output import write_table
from clinvit.stages.reproduce.result import RowResult, load_result, save_result
from clinvit.stages.reproduce.run import Request, estimated, reproduce
from clinvit.stages.reproduce.small import Scale, shortest, small
from clinvit.stages.reproduce.table import Finetune, Measure, Metric, Printed, Row, TestList
from clinvit.tasks import all_tasks, load
from clinvit.tasks.thorax import phantoms
from clinvit.tasks.thorax import tables as thorax
from clinvit.tasks.thorax.recipes import scaled_probe

TINY = Scale(image_px=32, pretrain_epochs=2, finetune_epochs=2, cnn_epochs=1)
FILES = ("table.csv", "table.json", "table.md", "table.tex", "table.html")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The manifest of a very small invented ChestX-ray14."""
    return phantoms.chestxray14(tmp_path_factory.mktemp("cohort"), patients=60)


@pytest.fixture
def small_table(monkeypatch, cohort):
    """`small_table(rows)`: the ablation of the mask ratio, or other rows, on that cohort at the smallest scale."""
    monkeypatch.setattr(plan, "SCALE", TINY)
    mask = next(table for table in thorax.ABLATIONS if table.name == "thorax/ablation-mask")

    def make(*rows: Row):
        return replace(mask, rows=rows or mask.rows[2:4], phantoms=lambda folder: cohort)

    return make


@pytest.fixture
def ask(tmp_path):
    """`ask(table, ...)` gives the outcome by row; on phantoms, with few resamples and a checkpoint every epoch."""

    def request(table, **more):
        options = ("--run.checkpoint_minutes", "0", "--run.precision", "32-true")
        asked = Request(table, load(table.task), tmp_path, phantoms=True, resamples=100, options=options)
        return {result.name: result for result in reproduce(replace(asked, **more))[1]}

    return request


def row(name: str, *steps, words: str = "", paper: float | None = 0.8) -> Row:
    return Row(name, words or name, steps, {"macro_auroc": Printed(paper)})


def scratch(key: str = "scratch", **changes) -> Finetune:
    return Finetune(key, lambda: replace(thorax.finetune_vit_s(), **changes), "none")


@pytest.fixture
def failing(monkeypatch):
    """Makes the first fine-tuning that reaches its second epoch end as Ctrl-C ends it."""
    left = [KeyboardInterrupt]
    before = FineTuning.on_train_epoch_start

    def interrupted(self):
        if self.current_epoch == 1 and left:
            raise left.pop()
        before(self)

    monkeypatch.setattr(FineTuning, "on_train_epoch_start", interrupted)


def test_an_interrupted_table_ends_as_an_uninterrupted_one(small_table, ask, tmp_path, monkeypatch, request):
    straight = ask(small_table(), out=tmp_path / "straight")
    request.getfixturevalue("failing")
    with pytest.raises(KeyboardInterrupt):
        ask(small_table(), out=tmp_path / "broken")
    shown = json.loads((tmp_path / "broken/phantoms/thorax/ablation-mask/table.json").read_text())
    assert [each["state"] for each in shown["rows"]] == ["not run", "not run"]
    again = ask(small_table(), out=tmp_path / "broken")
    for name, result in straight.items():
        assert result.state == "done" and repr(again[name].measured) == repr(result.measured)
        assert 0 < result.measured.metrics["macro_auroc"].value < 1
    assert [straight[name].cost.starts for name in straight] == [2, 2]
    assert [again[name].cost.starts for name in again] == [3, 2], "the interrupted start counts too"
    before = {name: result.cost for name, result in again.items()}
    assert {name: result.cost for name, result in ask(small_table(), out=tmp_path / "broken").items()} == before, (
        "a finished step is not repeated"
    )


def test_what_is_invented_says_so_everywhere(small_table, ask, tmp_path):
    ask(small_table(row("a", scratch(), paper=0.823), row("later", scratch("b"))), rows=["a"])
    folder = tmp_path / "phantoms/thorax/ablation-mask"
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in FILES}
    assert all("INVENTED DATA" in text for text in texts.values())
    lines = list(csv.DictReader(texts["table.csv"].splitlines()))
    assert [line["data"] for line in lines] == ["INVENTED DATA (phantoms)"] * 2
    assert lines[0]["verdict"] == "not comparable: invented data" and lines[1]["verdict"] == "not run"
    assert lines[0]["paper"] == "0.823" and lines[0]["low"] == "", "so few patients give no interval"
    assert float(lines[0]["hours"]) > 0 and lines[0]["device"] and float(lines[0]["peak_memory_gib"]) > 0
    assert "1 of 2 rows measured on invented data" in texts["table.html"]
    assert "http://" not in texts["table.html"] and "https://" not in texts["table.html"], "nothing from the network"
    shown = json.loads(texts["table.json"])
    value = f"{100 * shown['rows'][0]['metrics']['macro_auroc']['measured']['value']:.1f}"
    assert f"{float(lines[0]['measured']):.3f}" == f"{float(value) / 100:.3f}"
    assert f"| {value} % |" in texts["table.md"] and f">{value} %<" in texts["table.html"]
    assert rf"& {value} \%" in texts["table.tex"] and r"& 82.3 \% &" in texts["table.tex"], "as the others"
    assert shown["invented_data"] is True and shown["rows"][0]["cases"] == int(lines[0]["cases"]) > 0


def test_an_accuracy_stands_beside_that_of_the_most_frequent_class(small_table, tmp_path):
    table = with_metrics(small_table(row("a", scratch())), "accuracy", "macro_auroc")
    known = Measured({"accuracy": Estimate(0.9, 0.85, 0.93)}, 100, 100, 0, 100, "", {"accuracy": 0.75})
    save_result(tmp_path, RowResult("a", "done", measured=known))
    write_table(tmp_path, table, [load_result(tmp_path, "a", "")], phantoms=False, manifest=None)
    for name in ("table.md", "table.tex", "table.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count("always saying the most frequent class: 0.750") == 1, name
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["most_frequent_class"] for line in lines] == ["0.75", ""]
    metrics = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"][0]["metrics"]
    assert [each["most_frequent_class"] for each in metrics.values()] == [0.75, None]


def test_rows_run_one_by_one_fill_one_table(small_table, ask):
    table = small_table(row("a", scratch()), row("b", scratch()))
    first = ask(table, rows=["a"])
    assert [result.state for result in first.values()] == ["done", "not run"]
    second = ask(table, rows=["b"])
    assert repr(second["a"]) == repr(first["a"]), "kept from the command before"
    assert repr(second["b"].measured) == repr(second["a"].measured), "they share the step"
    assert second["b"].cost == second["a"].cost


def test_a_failing_row_leaves_the_others_alone(small_table, ask, tmp_path):
    def broken(work):
        raise RuntimeError("CUDA out of memory.\n  Tried to allocate 20.00 GiB")

    table = small_table(row("bad", Measure("bad", thorax.pretrain_vit_s, broken)), row("good", scratch()))
    found = ask(table)
    assert found["bad"].state == "failed"
    assert found["bad"].reason == "CUDA out of memory. Tried to allocate 20.00 GiB"
    assert found["good"].state == "done"
    folder = tmp_path / "phantoms/thorax/ablation-mask"
    assert "failed: CUDA out of memory" in (folder / "table.md").read_text()
    lines = {line["row"]: line for line in csv.DictReader((folder / "table.csv").read_text().splitlines())}
    assert lines["bad"]["verdict"] == lines["bad"]["state"] == "failed" and lines["bad"]["measured"] == ""
    assert "RuntimeError" in (folder / "rows/bad.traceback.txt").read_text()
    assert ask(small_table(row("bad", scratch()), row("good", scratch())))["bad"].state == "done", "tried again"


def test_a_failing_row_is_exit_code_1(small_table, monkeypatch, tmp_path, capsys):
    def broken(work):
        raise UserError("the disk is upside down.")

    table = small_table(row("bad", Measure("bad", thorax.pretrain_vit_s, broken)), row("good", scratch()))
    monkeypatch.setattr(catalogue, "find_table", lambda name, tasks: (table, load(table.task)))
    code = main(["reproduce", "x", "--phantoms", "--out", str(tmp_path), "--resamples", "50"])
    captured = capsys.readouterr()
    assert code == 1 and "1 of 2 rows failed: bad" in captured.err and "upside down" in captured.out


def test_without_data_what_needs_none_is_measured(small_table, ask):
    metrics = {"step_seconds": 1.5, "macro_auroc": Estimate(0.7, 0.6, 0.8)}
    table = replace(
        small_table(row("a", Measure("cost", thorax.pretrain_vit_s, lambda work: metrics), scratch())),
        metrics=(thorax.MEAN_AUROC, Metric("step_seconds", "seconds a step", 1, "")),
    )
    found = ask(table, phantoms=False)["a"]
    assert found.state == "done" and found.left_out == ("scratch",) and found.measured.cases == 0
    assert found.measured.metrics["step_seconds"].value == 1.5
    assert found.measured.metrics["macro_auroc"].low == 0.6, "what a step measured itself goes first"
    with pytest.raises(UserError, match="--data is missing"):
        ask(small_table(row("a", scratch())), phantoms=False)


def test_rows_without_weights_are_not_run_and_say_what_they_need(small_table, ask, cohort, tmp_path):
    table = small_table(
        row("hub", Finetune("hub", thorax.finetune_vit_s, "timm:deit_tiny_patch16_224.fb_in1k")),
        row("lab", Finetune("lab", thorax.finetune_vit_s, "a ViT of another laboratory")),
        Row("nobody", "nobody", (), {}, note="not built here: two magnifications"),
        row("a", Measure("cost", thorax.pretrain_vit_s, lambda work: {"macro_auroc": 0.5})),
    )
    found = ask(table, phantoms=False, data=cohort)
    assert found["hub"].reason.endswith("--weights hub=PATH or --download")
    assert "a ViT of another laboratory" in found["lab"].reason and found["lab"].state == "not run"
    assert found["nobody"].reason == "not built here: two magnifications" and found["a"].state == "done"
    with pytest.raises(UserError, match="row lab: needs weights"):
        ask(table, phantoms=False, data=cohort, rows=["lab"])
    random = ask(table, rows=["lab"])["lab"]
    assert random.state == "done" and random.start.startswith("random weights")


def test_weights_that_are_given(small_table, ask, tmp_path):
    """An encoder starts at fine-tuning; a model, or a checkpoint with a head, at prediction; all are said."""
    table = small_table()
    name = table.rows[0].name
    trained = ask(table, rows=[name])
    steps = next((tmp_path / "phantoms/steps").iterdir())
    pretrained, tuned = (steps / step.key for step in table.rows[0].steps)
    encoder = ask(table, rows=[name], weights={name: [pretrained / "encoder"]})
    assert encoder[name].measured == trained[name].measured and encoder[name].cost.starts == 1
    assert encoder[name].start == "given weights encoder"
    model = ask(table, rows=[name], weights={name: [tuned / "model"]})
    assert close(model[name], trained[name]) and model[name].cost.starts == 1

    network, card = load_model(tuned / "model")
    state = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / "finetuned.pth")
    options = ("--run.precision", "32-true")
    adopted = ask(table, rows=[name], weights={name: [tmp_path / "finetuned.pth"]}, options=options)
    kept = next(steps.glob("*-given-*/model/model.json"))
    assert card.labels == tuple(json.loads(kept.read_text())["labels"])
    assert close(adopted[name], trained[name])


def test_a_joint_head_starts_a_row_or_is_evaluated(small_table, ask, cohort, tmp_path):
    """A checkpoint of more classes, among them the row's: a whole model where the row says so, else a start."""
    trained = ask(small_table(row("a", scratch())))["a"]
    network, card = load_model(next(tmp_path.glob("phantoms/steps/*/scratch/model")))
    state = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    labels = len(card.labels)
    head = StartHead(labels + 5, tuple(range(labels + 4, 4, -1)))
    for name in ("head.weight", "head.bias"):
        joint = torch.randn(labels + 5, *state[name].shape[1:])
        joint[list(head.rows)] = state[name]
        state[name] = joint
    torch.save({"model": state}, tmp_path / "joint.pth")
    given, options = {"a": [tmp_path / "joint.pth"]}, ("--run.precision", "32-true")
    step = replace(scratch("joint"), encoder="weights", head=head)
    evaluated = ask(small_table(row("a", replace(step, as_is=True))), weights=given, options=options)["a"]
    assert close(evaluated, trained)

    still = replace(step, key="still", recipe=lambda: replace(thorax.finetune_vit_s(), select="last", eval_every=1))
    slow = (*options, "--optim.base_lr", "1e-12", "--optim.min_lr", "0")
    started = ask(small_table(row("a", still)), weights=given, options=slow)["a"]
    assert close(started, trained) and not list(tmp_path.glob("phantoms/steps/*/joint*/checkpoints"))


def close(one, two) -> bool:
    """The same metrics but for rounding in files and batches."""
    a, b = (result.measured.metrics["macro_auroc"].value for result in (one, two))
    return abs(a - b) < 1e-4


def test_weights_of_a_convolutional_network(small_table, ask, tmp_path):
    import timm

    changed = partial(replace, thorax.finetune_resnet50(), network="resnet18")
    table = small_table(row("cnn", Finetune("cnn", changed, "ResNet-18 by SwAV")))
    network = timm.create_model("resnet18", num_classes=1000)
    state = {f"module.{key}": value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    torch.save({"state_dict": state}, tmp_path / "swav.pth")
    given = ask(table, weights={"cnn": [tmp_path / "swav.pth"]})["cnn"]
    assert given.state == "done" and given.start == "given weights swav.pth"
    card = json.loads(next(tmp_path.glob("phantoms/steps/*/cnn-given-*/model/model.json")).read_text())
    assert card["encoder"]["method"].startswith("weights of resnet18: loaded 120 tensors")
    assert "conv1.weight folded to 1 channel" in card["encoder"]["method"]
    headed = timm.create_model("resnet18", num_classes=5, in_chans=1)
    torch.save(headed.state_dict(), tmp_path / "headed.pth")
    found = ask(table, weights={"cnn": [tmp_path / "headed.pth"]})["cnn"]
    assert found.state == "done" and found.cost.starts == 1


@pytest.mark.parametrize(
    "given, told",
    [
        ("nothing.pth", "no such file or folder"),
        ("folder", "neither a model folder"),
        ("text.pth", "not a readable PyTorch checkpoint"),
        ("encoder", "the row starts from scratch: leave it out"),
    ],
)
def test_weights_that_do_not_fit(given, told, small_table, ask, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pth").write_text("no weights")
    arch = small(thorax.finetune_vit_s(), TINY).model.architecture()
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    with pytest.raises(UserError, match=told):
        ask(small_table(row("a", scratch())), weights={"a": [tmp_path / given]})


def test_weights_of_another_size_or_for_other_labels_are_noticed_at_once(small_table, ask, tmp_path):
    arch = small(thorax.finetune_vit_s()).model.architecture()
    arch = replace(arch, width=256)
    wide = save_encoder(tmp_path / "wide", ViT(arch), EncoderCard(arch, (0.5,), (1.0,)))
    table = small_table()
    with pytest.raises(UserError, match="a ViT of width 256 and depth 4; the row's has width 128"):
        ask(table, weights={table.rows[0].name: [wide]})
    ask(small_table(row("a", scratch())))
    model = next(tmp_path.glob("phantoms/steps/*/scratch/model"))
    fewer = replace(row("a", scratch()), labels=("Edema",))
    with pytest.raises(UserError, match=r"predicts .*; the row needs Edema"):
        ask(small_table(fewer), weights={"a": [model]})


def test_files_that_are_not_there_are_noticed_before_anything_runs(small_table, ask, cohort, tmp_path):
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/manifest.csv").write_bytes(cohort.read_bytes())
    with pytest.raises(UserError, match="files looked for are missing, such as"):
        ask(small_table(row("a", scratch())), phantoms=False, data=tmp_path / "moved")
    assert not list(tmp_path.rglob("steps"))


def test_several_processes_stop_at_a_failure_and_take_the_other_rows_first_next_time(small_table, ask, monkeypatch):
    begun = []

    def look(name, fails):
        def measure(work):
            begun.append(name)
            if fails:
                raise RuntimeError("out of memory")
            return {"macro_auroc": 0.5}

        return row(name, Measure(name, thorax.pretrain_vit_s, measure))

    table = small_table(look("bad", True), look("good", False))
    monkeypatch.setattr(run, "processes", lambda: 2)
    for _ in range(2):
        with pytest.raises(RunError, match="row bad: out of memory"):
            ask(table, options=())
    assert begun == ["bad", "good", "bad"]


def test_two_encoders_are_one_too_many(small_table, ask, tmp_path):
    arch = small(thorax.finetune_vit_s(), TINY).model.architecture()
    paths = [save_encoder(tmp_path / name, ViT(arch), EncoderCard(arch, (0.5,), (0.25,))) for name in ("e", "f")]
    table = small_table()
    with pytest.raises(UserError, match="are both encoders"):
        ask(table, weights={table.rows[0].name: paths})


def test_options_reach_the_recipes_that_know_them(small_table, ask, tmp_path):
    found = ask(small_table(row("a", scratch())), options=("--optim.epochs", "1", "--optim.warmup_epochs=0"))["a"]
    assert found.changes == ("--optim.epochs", "1", "--optim.warmup_epochs=0")
    assert "epochs: 1\n" in next(tmp_path.glob("phantoms/steps/*/scratch/recipe.yaml")).read_text()
    assert "recipe changed: --optim.epochs 1" in (tmp_path / "phantoms/thorax/ablation-mask/table.md").read_text()
    with pytest.raises(UserError, match="no recipe of these rows has it"):
        ask(small_table(row("a", scratch())), options=("--optim.epoch", "1"))
    with pytest.raises(UserError, match="unknown argument 'three'"):
        ask(small_table(row("a", scratch())), options=("three",))


def test_a_finished_step_of_another_recipe_is_not_passed_off(small_table, ask):
    ask(small_table(row("a", scratch())))
    found = ask(small_table(row("a", scratch(patch_drop=0.5))))["a"]
    assert found.state == "failed" and "finished step of another recipe" in found.reason


def test_pretraining_data_of_their_own(small_table, ask, cohort, tmp_path, monkeypatch):
    frame = pd.read_csv(cohort, dtype=str)
    frame["path"] = [str((cohort.parent / path).resolve()) for path in frame["path"]]
    (tmp_path / "more").mkdir()
    frame[frame["split"] == "train"].to_csv(tmp_path / "more/manifest.csv", index=False)
    monkeypatch.setenv("CLINVIT_ROOTS", str(cohort.parent))
    (tmp_path / "more/manifest.json").write_text(json.dumps({"roots": [str(cohort.parent)]}))
    options = (
        "--optim.epochs 1 --optim.warmup_epochs 0 --optim.batch_size 16 --model.size micro --model.image_size 32 "
        "--model.patch_size 8 --augment.size 32 --data.cache_px 40"
    ).split()
    table = small_table()
    found = ask(
        table, phantoms=False, data=cohort, pretrain_data=tmp_path / "more", rows=[table.rows[1].name], options=options
    )[table.rows[1].name]
    assert found.state == "done", found.reason
    places = {
        path.parent.name[:4]: path.name for path in (tmp_path / "steps").glob("*/*") if path.name != "pixel-cache"
    }
    assert places == {"more": "thorax-mae-vit-s", cohort.parent.name[:4]: "thorax-ft-vit-s"}
    with pytest.raises(UserError, match="none of these rows pre-trains"):
        ask(small_table(row("a", scratch())), phantoms=False, data=cohort, pretrain_data=cohort)


def test_a_data_set_as_downloaded_is_prepared(small_table, ask, cohort, tmp_path):
    table = small_table(row("a", Measure("look", thorax.pretrain_vit_s, lambda work: {"macro_auroc": 0.5}, data=True)))
    found = ask(table, phantoms=False, data=cohort.parent / "raw", options=())["a"]
    assert found.state == "done" and (tmp_path / "data/raw/manifest.csv").is_file()


def test_results_of_other_data_are_not_shown(small_table, ask, cohort, tmp_path):
    table = small_table(row("a", scratch()), row("b", scratch()))
    ask(table, rows=["a"])
    other = phantoms.chestxray14(tmp_path / "other", patients=40)
    found = ask(replace(table, phantoms=lambda folder: other), rows=["b"])
    assert found["a"].state == "not run" and "other data" in found["a"].reason
    assert load_result(tmp_path / "phantoms/thorax/ablation-mask", "a", "elsewhere").state == "not run"


def test_no_test_case_is_noticed_before_the_training(small_table, ask, cohort, tmp_path):
    frame = pd.read_csv(cohort, dtype=str)
    path = cohort.parent / "untested.csv"
    frame[frame["split"] != "test"].to_csv(path, index=False)
    with pytest.raises(UserError, match="no case in the split test"):
        ask(small_table(row("a", scratch())), phantoms=False, data=path)


def test_costs_add_up_over_interruptions(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 107.0])
    monkeypatch.setattr("clinvit.stages.reproduce.cost.time.monotonic", lambda: next(clock))
    with pytest.raises(ZeroDivisionError), costed(tmp_path):
        _ = 1 / 0
    with costed(tmp_path):
        pass
    found = read_cost(tmp_path)
    assert found.seconds == 12 and found.starts == 2 and found.peak_gib > 0.01
    assert total([found, Cost(3.0, 24.0, 1, "another", "GPU", 40.0)]) == Cost(15.0, 36.0, 3, "another", "GPU", 40.0)
    assert total([]) == read_cost(tmp_path / "nowhere") == Cost()
    (tmp_path / "cost.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        read_cost(tmp_path)


def write_scores(folder, truth: np.ndarray, scores: np.ndarray, labels: tuple[str, ...]) -> None:
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(len(truth))], "split": ["val", "test"] * (len(truth) // 2)})
    cases["patient"] = cases["id"]
    write_predictions(folder / "predictions.csv", predictions_table(cases, labels, truth, scores, [""] * len(truth)))


def with_metrics(table, *keys: str, rule: str = "youden"):
    return replace(table, metrics=tuple(Metric(key, key, 3, "") for key in keys), rule=rule)


def test_metrics_of_one_label(small_table, tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (200, 1)).astype(float)
    scores = np.clip(0.3 * truth + rng.uniform(0, 0.7, (200, 1)), 0, 1)
    write_scores(tmp_path, truth, scores, ("RD",))
    table = with_metrics(small_table(), "sensitivity", "precision", "f1", "accuracy", "macro_auroc", "froc", rule="0.5")
    found = measured(table, [tmp_path], 200)
    called, true = scores[1::2, 0] >= 0.5, truth[1::2, 0] == 1
    assert found.metrics["sensitivity"].value == pytest.approx(called[true].mean())
    assert found.metrics["precision"].value == pytest.approx(true[called].mean())
    assert found.metrics["accuracy"].value == pytest.approx((called == true).mean())
    assert found.baselines == {"accuracy": pytest.approx(max(true.mean(), 1 - true.mean()))}
    assert "froc" not in found.metrics and found.cases == found.patients == 100
    write_metrics(tmp_path, {"froc": Estimate(0.4, 0.3, 0.5), "f1": math.nan})
    found = measured(table, [tmp_path], 200)
    assert found.metrics["froc"] == Estimate(0.4, 0.3, 0.5) and math.isnan(found.metrics["f1"].value)


def test_metrics_of_classes(small_table, tmp_path):
    truth = np.eye(3)[np.arange(60) % 3]
    scores = np.tile([0.5, 0.3, 0.2], (60, 1))
    write_scores(tmp_path, truth, scores, ("a", "b", "c"))
    table = with_metrics(small_table(), "top1", "class_kappa", "macro_auroc")
    found = measured(table, [tmp_path], 100)
    metrics = found.metrics
    assert found.baselines == {"top1": pytest.approx(1 / 3)}
    assert metrics["top1"].value == pytest.approx(1 / 3) and metrics["class_kappa"].value == pytest.approx(0)
    assert metrics["macro_auroc"].value == 0.5
    with pytest.raises(UserError, match="sensitivity is of one label"):
        measured(with_metrics(small_table(), "sensitivity"), [tmp_path], 100)
    write_scores(tmp_path, truth, scores * 0.5, ("a", "b", "c"))
    with pytest.raises(UserError, match="top1 needs exclusive classes"):
        measured(with_metrics(small_table(), "top1"), [tmp_path], 100)


def test_damaged_metrics_are_one_line(tmp_path):
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match="not readable JSON"):
        read_metrics(tmp_path)


def test_a_hub_that_is_out_of_reach_is_one_line(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect to\n the hub")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(UserError, match=r"could not be had \(We couldn't connect to the hub\).*--weights"):
        fetch("resnet18.tv_in1k", tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_writes(small_table, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "rank", lambda: 1)
    table = small_table(row("a", Measure("look", thorax.pretrain_vit_s, lambda work: {})))
    assert ask(table, options=())["a"].state == "done"
    assert not list(tmp_path.rglob("*table*")) and not list(tmp_path.rglob("cost.json"))


@pytest.mark.slow
def test_the_command_end_to_end(tmp_path, monkeypatch, capsys):
    """`clinvit reproduce thorax/ablation-mask --phantoms`: five rows, each with a metric, and a page."""
    monkeypatch.setattr(plan, "SCALE", replace(TINY, image_px=48))
    table, task = catalogue.find_table("thorax/ablation-mask", all_tasks())
    few = replace(table, phantoms=partial(table.phantoms, patients=40))
    monkeypatch.setattr(catalogue, "find_table", lambda name, tasks: (few, task) if name == few.name else None)
    command = ["reproduce", "thorax/ablation-mask", "--phantoms", "--out", str(tmp_path), "--resamples", "200"]
    assert main(command) == 0
    folder = tmp_path / "phantoms/thorax/ablation-mask"
    shown = json.loads((folder / "table.json").read_text())
    assert [each["state"] for each in shown["rows"]] == ["done"] * 5
    assert len({each["metrics"]["macro_auroc"]["measured"]["value"] for each in shown["rows"]}) > 1
    assert "INVENTED DATA" in capsys.readouterr().out
    assert main(command) == 0, "and again, in no time"
    assert json.loads((folder / "table.json").read_text()) == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, rows",
    [
        ("thorax/main", ("densenet121-imagenet", "resnet50-swav", "vit-s-imagenet")),
        ("thorax/chexpert", ("vit-s-xrays-mae",)),
        ("thorax/covidx", ("vit-s-xrays-mae",)),
        ("thorax/ablation-randaug", ("randaug-none", "randaug-10")),
        ("thorax/scales", ("scales-1", "scales-1-2")),
    ],
)
def test_the_other_thorax_tables_run_small(name, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SCALE", replace(TINY, finetune_epochs=1, pretrain_epochs=1))
    table, task = catalogue.find_table(name, all_tasks())
    small_set = replace(table, phantoms=partial(table.phantoms, patients=60))
    _, results = reproduce(Request(small_set, task, tmp_path, phantoms=True, resamples=50, rows=rows))
    states = {result.name: (result.state, result.reason) for result in results if result.name in rows}
    assert states == dict.fromkeys(rows, ("done", ""))


def test_two_scales_fit_the_phantoms_and_the_cache():
    for scales in ((1,), (1, 2)):
        recipe = small(scaled_probe(*scales))
        arch = recipe.model.architecture()
        card = make_card(recipe, NO_CASES, EncoderCard(arch, (0.5,), (0.25,), method="mae"))
        assert card.least_px() <= card.cache_px and card.least_px() <= phantoms.SIZE_PX


def test_every_recipe_has_a_try_of_one_epoch():
    for table in (each for task in all_tasks() for each in task.tables().values()):
        for step in (step for table_row in table.rows for step in table_row.steps):
            recipe, tried = step.recipe(), shortest(step.recipe())
            if hasattr(recipe, "optim"):
                assert (tried.optim.epochs, tried.optim.warmup_epochs, tried.optim.accumulate) == (1, 0, 1)
                assert tried.optim.batch_size <= max(1, min(16, recipe.optim.batch_size))
            else:
                assert tried == recipe


def test_a_try_on_real_data_says_what_it_is(small_table, cohort, ask, tmp_path, capsys):
    """One epoch in a folder of its own; the paper's values say nothing about it, for two reasons."""
    small_model = (
        "--model.size=micro", "--model.image_size=32", "--model.patch_size=8", "--augment.size=32",
        "--data.cache_px=36", "--run.precision=32-true", "--optim.base_lr=1e-5",
    )  # fmt: skip
    table = replace(small_table(row("one", scratch())), test=TestList(25_596))
    asked = {"phantoms": False, "data": cohort, "options": small_model}
    found = ask(table, smoke=True, **asked)["one"]
    assert found.state == "done" and found.changes == ("--smoke", *small_model)
    assert "scratch: 1 epoch of" in (said := capsys.readouterr().out) and "--estimate" in said
    text = (tmp_path / "smoke" / table.name / "table.md").read_text()
    assert "not comparable: another test list (" in text and "recipe changed: --smoke" in text
    with pytest.raises(UserError, match=r"scratch: optim.batch_size 4096 is larger .* --smoke"):
        ask(table, phantoms=False, data=cohort, options=(*small_model, "--optim.batch_size=4096"))
    request = Request(table, load(table.task), tmp_path, data=cohort, options=(*small_model, "--optim.batch_size=16"))
    assert estimated(request).count("time in all") == 1 and not (tmp_path / table.name / "rows").exists()
    with pytest.raises(UserError, match="leave --smoke out"):
        ask(table, smoke=True)
