"""The recipes for small archives: two commands that fit each other, and a CNN that sees what the ViT sees."""

from dataclasses import fields, replace

from clinvit.tasks.thorax import recipes


def test_small_archive_is_tiny_but_for_its_crops_and_views():
    for small, tiny in (
        (recipes.pretrain_small_archive(), recipes.pretrain_tiny()),
        (recipes.finetune_small_archive(), recipes.finetune_tiny()),
    ):
        usual = {"augment": tiny.augment} | ({"view": tiny.view} if hasattr(tiny, "view") else {})
        assert replace(small, **usual) == tiny
        ratio, wide = small.augment.crop_ratio, tiny.augment.crop_ratio
        assert wide[0] < ratio[0] < 1 < ratio[1] < wide[1], "milder in shape"
        assert small.augment.crop_scale[0] > tiny.augment.crop_scale[0], "and in size"


def test_small_archive_judges_a_chest_as_large_as_training_crops_show_it():
    small = recipes.finetune_small_archive()
    share = (small.augment.size / small.view.resize_px) ** 2
    low, high = small.augment.crop_scale
    assert low * 0.9 < share < high, "the centre has about the area of a training crop"
    assert small.view.resize_px <= small.data.cache_px, "nothing is enlarged beyond the cached pixels"


def test_fine_tuning_fits_the_encoder_of_the_same_name():
    for name in recipes.PRETRAIN.keys() & recipes.FINETUNE.keys():
        pre, fine = recipes.PRETRAIN[name](), recipes.FINETUNE[name]()
        assert replace(fine.model, drop_path=0.0) == pre.model, name
        assert (fine.data.mean, fine.data.std, fine.data.cache_px) == (pre.data.mean, pre.data.std, pre.data.cache_px)


def test_the_cnn_of_the_comparison_sees_the_same_images():
    vit, cnn = recipes.finetune_small_archive(), recipes.finetune_small_archive_resnet18()
    assert cnn.network == "resnet18"
    differing = {one.name for one in fields(vit) if getattr(vit, one.name) != getattr(cnn, one.name)}
    assert differing == {"network", "patch_drop", "optim"}
