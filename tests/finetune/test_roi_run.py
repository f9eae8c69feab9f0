"""A region of interest from training to prediction, maps and exports: as of clips that were cropped by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.cli import main
from clinvit.cli.light_command import main as light_main
from clinvit.core.documents import read_json
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.datasets.settings import Clip
from clinvit.explain.clip_maps import clip_maps
from clinvit.explain.importance import frame_importance
from clinvit.finetune.features_recipe import Features
from clinvit.finetune.model import load_model
from clinvit.finetune.pipeline import manifest_cases, predicted
from clinvit.finetune.predict import model_predictor
from clinvit.finetune.run import finetune
from clinvit.pretrain.run import pretrain
from clinvit.stages.extract import extract_features
from clinvit.stages.journal import Journal
from clinvit.stages.journalled import JournalledPredictor
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.share import Alone
from PIL import Image

LEFT, TOP, SIDE = 50, 30, 32  # of the clip in its frame of 120 x 90 px


def framed(manifest, into):
    """Copy clips into the middle of larger frames that stand still; gives the new manifest's path."""
    table = pd.read_csv(manifest)
    for name in table["path"]:
        (into / name).mkdir(parents=True)
        for file in (manifest.parent / name).iterdir():
            page = np.zeros((90, 120), np.uint8)
            page[4:12, 4:100] = 255
            page[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = np.asarray(Image.open(file))
            Image.fromarray(page).save(into / name / file.name)
    table.to_csv(into / "manifest.csv", index=False)
    return into / "manifest.csv"


@pytest.fixture
def cohorts(clip_cohort, tmp_path):
    """Clips, and the same clips within frames, with boxes beside them; of one clip there is no box."""
    bare = clip_cohort(10)
    page = framed(bare, tmp_path / "framed")
    boxes = pd.read_csv(page)[["id"]].assign(x_px=LEFT, y_px=TOP, width_px=SIDE, height_px=SIDE)
    boxes.to_csv(page.parent / "roi.csv", index=False)
    return read_manifest(bare), read_manifest(page)


def short(recipe, **clip):
    data = replace(recipe.data, clip=replace(recipe.data.clip, roi_margin=0.0, **clip))
    return replace(recipe, data=data, optim=replace(recipe.optim, epochs=1, warmup_epochs=0, batch_size=6))


def same_weights(one, two) -> bool:
    states = [load_model(run / "model")[0].state_dict() for run in (one, two)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_model_of_boxes_is_that_of_clips_cropped_by_hand(cohorts, small_clip_recipes, tmp_path, capsys):
    bare, page = cohorts
    pre, fine = small_clip_recipes
    encoders = [
        pretrain(short(pre, **roi), manifest, tmp_path / f"mae{n}", tmp_path / f"cache{n}")
        for n, (manifest, roi) in enumerate([(bare, {}), (page, {"roi": "boxes"})])
    ]
    finetune(short(fine), bare, tmp_path / "bare", tmp_path / "cache0", encoders[0])
    capsys.readouterr()
    finetune(short(fine, roi="boxes"), page, tmp_path / "boxed", tmp_path / "cache1", encoders[1])
    assert same_weights(tmp_path / "bare", tmp_path / "boxed")
    said = capsys.readouterr().out
    assert "note: 20 of 20 clips are cropped to their region of interest, 9% of the frame in the median" in said
    assert "the encoder has seen clips with" not in said
    finetune(short(fine), page, tmp_path / "whole", tmp_path / "cache1", encoders[1])
    assert "note: the encoder has seen clips with data.clip.roi boxes; here it is none" in capsys.readouterr().out
    assert not same_weights(tmp_path / "bare", tmp_path / "whole")
    tables = [read_predictions(tmp_path / run / "predictions.csv").table for run in ("bare", "boxed")]
    np.testing.assert_array_equal(tables[0]["p_Right"], tables[1]["p_Right"])
    assert "region_px" not in tables[0] and set(tables[1]["region_px"]) == {"50 30 82 62"}
    model, card = load_model(tmp_path / "boxed/model")
    assert card.data["roi"] == {"cropped": 20, "whole": 0}
    kept = pd.read_csv(tmp_path / "boxed/regions.csv")
    assert len(kept) == 20 and kept["whole"].isna().all() and (kept["frame_width_px"] == 120).all()
    again = predicted(*manifest_cases(page.rows("val", "test"), card.labels), model_predictor(model, card), False)
    np.testing.assert_allclose(again["p_Right"], tables[1]["p_Right"], atol=1e-6)
    assert again["region_px"].tolist() == tables[1]["region_px"].tolist()
    with pytest.raises(UserError, match=r"give a manifest with roi\.csv beside it"):
        predict_stage(Request(tmp_path / "boxed/model", [str(page.files()[0])], tmp_path / "p.csv"))
    assert not (tmp_path / "p.csv").exists()


def test_a_run_does_not_go_on_with_other_boxes(cohorts, small_clip_recipes, tmp_path):
    _, page = cohorts
    recipe = short(small_clip_recipes[0], roi="boxes")
    pretrain(recipe, page, tmp_path / "mae", tmp_path / "cache")
    boxes = pd.read_csv(page.path.parent / "roi.csv")
    boxes.loc[0, "width_px"] = 20
    boxes.to_csv(page.path.parent / "roi.csv", index=False)
    with pytest.raises(UserError, match="roi"):
        pretrain(recipe, page, tmp_path / "mae", tmp_path / "cache")


def test_without_a_cache_the_model_is_the_same_and_a_still_clip_is_read_whole(cohorts, small_clip_recipes, tmp_path):
    _, page = cohorts
    still = page.files()[-1]
    frames = sorted(still.iterdir())
    for file in frames[1:]:
        file.write_bytes(frames[0].read_bytes())
    fine = short(small_clip_recipes[1], roi="moving")
    finetune(fine, page, tmp_path / "a", tmp_path / "cache")
    finetune(replace(fine, data=replace(fine.data, cache=False)), page, tmp_path / "b", tmp_path / "none")
    assert same_weights(tmp_path / "a", tmp_path / "b")
    for run in "ab":
        table = read_predictions(tmp_path / run / "predictions.csv").table.set_index("id")
        assert table.loc[still.name, "region_px"] == "0 0 120 90"
        assert table.loc[still.name, "warning"].endswith("nothing large enough moves; the whole frame was read")
        assert (table["warning"] != "").sum() == 1 and (table["status"] == "ok").all()
        assert load_model(tmp_path / run / "model")[1].data["roi"] == {
            "cropped": 19,
            "whole": 1,
            "whole_ids": [still.name],
        }
    pd.testing.assert_frame_equal(*(pd.read_csv(tmp_path / run / "regions.csv") for run in "ab"))


def boxed_model(page, recipe, tmp_path):
    """Train by boxes, then leave a clip without one; gives model and a manifest of the four test clips."""
    finetune(short(recipe, roi="boxes"), page, tmp_path / "run", tmp_path / "cache")
    boxes = pd.read_csv(page.path.parent / "roi.csv")
    boxes[boxes["id"] != "004_0"].to_csv(page.path.parent / "roi.csv", index=False)
    page.table[page.table["split"] == "test"].to_csv(page.path.parent / "few.csv", index=False)
    return str(tmp_path / "run/model"), str(page.path.parent / "few.csv")


def test_the_command_predicts_and_explains_with_the_crop(cohorts, small_clip_recipes, tmp_path, capsys):
    model, few = boxed_model(cohorts[1], small_clip_recipes[1], tmp_path)
    out = tmp_path / "out/predictions.csv"
    command = ["predict", "clips", few, "--model", model, "--out", str(out)]
    assert main([*command, "--explain", str(tmp_path / "out/explanations")]) == 0
    words = "warning: 1 scored case, see the column `warning`; first: 004_0 no region of interest"
    assert words in capsys.readouterr().err
    table = read_predictions(out).table.set_index("id")
    assert table.loc["004_0", "region_px"] == "0 0 120 90" and table.loc["004_1", "region_px"] == "50 30 82 62"
    assert len(list((tmp_path / "out/explanations").iterdir())) == 4
    journal = Journal(out, {"model": "x"}, False)
    journal.begin([])
    journal.append(["a", "b"], np.array([[0.5], [0.25]]), ["", ""], ["1 2 3 4", ""])
    journal.close()
    again = JournalledPredictor(Nothing(load_model(model)[1]), Journal(out, {"model": "x"}, True), Alone(out), 2)
    kept = list(again.scores({"id": ["a", "b"], "path": ["a", "b"]}))
    assert [list(each.regions) for each in kept] == [["1 2 3 4"], []], "a prediction that goes on keeps the regions"


class Nothing:
    """A predictor that is asked for nothing more."""

    def __init__(self, card):
        self.card = card

    def scores(self, cases):
        """Yield nothing."""
        assert not len(cases["path"])
        yield from ()


@pytest.mark.thorough
def test_an_exported_graph_reads_the_crop_too(cohorts, small_clip_recipes, tmp_path, capsys):
    model, few = boxed_model(cohorts[1], small_clip_recipes[1], tmp_path)
    out, graph, export = tmp_path / "torch.csv", tmp_path / "graph.csv", tmp_path / "onnx"
    assert main(["predict", "clips", few, "--model", model, "--out", str(out)]) == 0
    assert main(["export", model, "--to", "onnx", "--out", str(export)]) == 0
    assert "clips are cropped to their region of interest (data.clip.roi boxes)" in capsys.readouterr().out
    assert read_json(export / "clinvit.json")["preprocessing"]["reading"]["roi"] == "boxes"
    command = ["predict", "clips", few, "--model", str(export), "--runtime", "onnx", "--out", str(graph)]
    assert main(command) == 0
    assert light_main(["predict", few, "--model", str(export), "--out", str(tmp_path / "light.csv")]) == 0
    table = read_predictions(out).table.set_index("id")
    for path in (graph, tmp_path / "light.csv"):
        again = read_predictions(path).table.set_index("id")
        np.testing.assert_allclose(again["p_Right"], table["p_Right"], atol=1e-4)
        assert again["region_px"].tolist() == table["region_px"].tolist()


def test_maps_of_a_cropped_clip_lie_where_the_whole_frame_shows_them(cohorts, small_clip_recipes, tmp_path):
    _, page = cohorts
    fine = short(small_clip_recipes[1], roi="moving")
    finetune(fine, page, tmp_path / "run", tmp_path / "cache")
    model, card = load_model(tmp_path / "run/model")
    file = page.files()[0]
    found = clip_maps(model, card, file, np.array([0]))
    assert (found.width_px, found.height_px) == (120, 90)
    region = [int(each) for each in card.reader().region(file)[:4]]
    np.testing.assert_allclose(found.extent_px, region)
    np.testing.assert_allclose(region, [LEFT, TOP, LEFT + SIDE, TOP + SIDE], atol=6)
    hand = tmp_path / "hand"
    hand.mkdir()
    for each in sorted(file.iterdir()):
        Image.open(each).crop(region).save(hand / each.name)
    whole = replace(card, clip=replace(card.clip, roi="none"))
    np.testing.assert_array_equal(found.maps, clip_maps(model, whole, hand, np.array([0])).maps)
    one, two = frame_importance(model, card, file), frame_importance(model, whole, hand)
    np.testing.assert_array_equal(one.change, two.change)


def test_a_view_that_cuts_the_crop_keeps_its_place_in_the_frame(cohorts, small_clip_recipes, tmp_path):
    _, page = cohorts
    recipe = short(small_clip_recipes[1], roi="boxes")
    recipe = replace(recipe, view=replace(recipe.view, mode="crop", resize_px=40))
    finetune(recipe, page, tmp_path / "run", tmp_path / "cache")
    model, card = load_model(tmp_path / "run/model")
    reader = replace(card.reader(), boxes={str(page.files()[0]): next(iter(_boxes(page).values()))})
    found = clip_maps(model, card, page.files()[0], np.array([0]), reader)
    cut = SIDE * 4 / 40
    expected = [LEFT + cut, TOP + cut, LEFT + SIDE - cut, TOP + SIDE - cut]
    np.testing.assert_allclose(found.extent_px, expected)


def _boxes(manifest):
    from clinvit.datasets.manifest.rois import read_rois

    return read_rois(manifest.path.parent / "roi.csv")


def test_shards_and_items_of_ones_own_are_not_cropped(cohorts, small_clip_recipes, tmp_path):
    from clinvit.datasets.loading.shards.pixels import Shards

    _, page = cohorts
    place = Shards(str(tmp_path / "shards"), tmp_path / "here", 1.0)
    with pytest.raises(UserError, match=r"data\.clip\.roi moving: .*shards hold whole frames"):
        finetune(short(small_clip_recipes[1], roi="moving"), page, tmp_path / "run", place)
    assert Clip().roi == "none"


def test_features_of_an_encoder_that_has_seen_crops_are_of_crops_where_asked(
    cohorts, small_clip_recipes, tmp_path, capsys
):
    bare, page = cohorts
    encoder = pretrain(short(small_clip_recipes[0], roi="boxes"), page, tmp_path / "mae", tmp_path / "cache")
    extract_features(Features(), page, encoder, tmp_path / "whole")
    assert (
        "the encoder has seen clips with data.clip.roi boxes; here it is none (--clip.roi)" in capsys.readouterr().out
    )
    boxed = Features(clip=Clip(roi="boxes", roi_margin=0.0))
    for name, recipe, manifest in (("boxed", boxed, page), ("bare", Features(), bare)):
        extract_features(recipe, manifest, encoder, tmp_path / name)
    found = {name: np.load(tmp_path / name / "features.npy") for name in ("whole", "boxed", "bare")}
    np.testing.assert_array_equal(found["boxed"], found["bare"])
    assert np.abs(found["whole"] - found["bare"]).max() > 1e-3
