"""Numbers of recipes: every field states its range, and what lies outside is refused when the recipe is made."""

import dataclasses
import math

import numpy as np
import pytest
from clinvit.backbone.sizes import Model
from clinvit.core.errors import UserError
from clinvit.core.ranges import check_ranges, number_kind, within
from clinvit.datasets.settings import Clip, Data
from clinvit.datasets.slides.settings import Quality, Stain, Tiling, Tissue
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.multi_crop import MultiCrop
from clinvit.engine.recipe import Optim, Run, parse_recipe
from clinvit.finetune.distil_recipe import Distil
from clinvit.finetune.features_recipe import Features
from clinvit.finetune.recipe import Dense, Finetune, View
from clinvit.mil.extract_recipe import Extract
from clinvit.mil.recipe import Cases, Mil
from clinvit.pretrain.idle_recipe import Idle
from clinvit.pretrain.jepa_recipe import Jepa, Predictor
from clinvit.pretrain.recipe import Decoder, Dino, Head, Ibot, Pretrain, Start

WHOLE = (Pretrain, Dino, Jepa, Idle, Finetune, Distil, Features, Mil, Extract, Tiling)
GROUPS = {
    Model: "model.", Optim: "optim.", Run: "run.", Decoder: "decoder.", Head: "head.", MultiCrop: "crops.",
    View: "view.", Augment: "augment.", Clip: "data.clip.", Data: "data.", Cases: "data.", Tissue: "tissue.",
    Quality: "quality.", Stain: "stain.", Start: "start.", Predictor: "predictor.", Ibot: "ibot.", Dense: "dense.",
}  # fmt: skip
PARTS = {**dict.fromkeys(WHOLE, ""), **GROUPS}
NUMBERS = [
    (part, field)
    for part in PARTS
    for field in dataclasses.fields(part)
    if number_kind(field.type) is not None
]  # fmt: skip
NAMES = [f"{part.__name__}.{field.name}" for part, field in NUMBERS]


def _with(part: type, field: dataclasses.Field, value):
    """Return a part one of whose numbers is another, at each position where it has several."""
    default = getattr(part(), field.name)
    return part(**{field.name: tuple(value for _ in default) if isinstance(default, tuple) else value})


def _nested(value):
    yield type(value)
    for field in dataclasses.fields(value):
        if dataclasses.is_dataclass(getattr(value, field.name)):
            yield from _nested(getattr(value, field.name))


def test_every_group_of_every_recipe_is_walked_here():
    assert {part for recipe in WHOLE for part in _nested(recipe())} == set(PARTS)


@pytest.mark.parametrize(("part", "field"), NUMBERS, ids=NAMES)
def test_every_number_states_its_range(part, field):
    assert "range" in field.metadata, "state it: field(default=..., metadata=within(...))"


@pytest.mark.parametrize(("part", "field"), NUMBERS, ids=NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -1e-9, 0, 0.5, 1, 1.5, 10**9, True, "3"])
def test_numbers_are_within_their_range_or_refused_by_name(part, field, value):
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    kind_fits = number and (isinstance(value, int) or number_kind(field.type) is float)
    if kind_fits and value in field.metadata["range"]:
        try:
            _with(part, field, value)
        except UserError as error:  # at odds with another number, which the message then names or explains
            assert "is out of range" not in str(error)
        return
    with pytest.raises(UserError) as caught:
        _with(part, field, value)
    message = str(caught.value)
    assert message.startswith(f"{PARTS[part]}{field.name} ") and "is out of range" in message and "\n" not in message


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("optim.clip_norm", "0", "optim.clip_norm 0 is out of range: a number above 0, or null."),
        ("optim.clip_norm", "-1", "optim.clip_norm -1 is out of range: a number above 0, or null."),
        ("optim.base_lr", "nan", "optim.base_lr nan is out of range: a number above 0 to 1000."),
        ("optim.epochs", "3.5", "optim.epochs 3.5 is out of range: a whole number from 1 on."),
        ("optim.clip_norm", "x", "optim.clip_norm x is out of range: a number above 0, or null."),
        ("optim.betas", "[0.9]", "optim.betas [0.9] is out of range: 2 numbers from 0 to below 1."),
        ("optim.epochs", "0", "optim.epochs 0 is out of range: a whole number from 1 on."),
        ("optim.betas", "[0.9, 1.2]", "optim.betas [0.9, 1.2] is out of range: 2 numbers from 0 to below 1."),
        ("model.drop_path", "1.5", "model.drop_path 1.5 is out of range: a number from 0 to below 1."),
        ("mask_ratio", "1", "mask_ratio 1 is out of range: a number above 0 to below 1."),
        ("augment.crop_scale", "[0.9, 0.2]", "2 numbers above 0 to 1, the lesser first."),
        ("run.workers", "-5", "run.workers -5 is out of range: a whole number from -1 to 1024."),
        ("run.checkpoint_minutes", "nan", "run.checkpoint_minutes nan is out of range"),
        ("run.seed", "-1", "run.seed -1 is out of range: a whole number from 0 to 4294967295."),
        ("data.clip.fps", ".inf", "data.clip.fps inf is out of range: a number above 0 to 1000, or null."),
    ],
)
def test_slips_on_the_command_line_are_answered_by_name_value_and_range(tmp_path, option, value, words):
    config = tmp_path / "recipe.yaml"
    inner = f"{option.rsplit('.', 1)[-1]}: {value}"
    for group in reversed(option.split(".")[:-1]):
        inner = f"{group}: {{{inner}}}"
    config.write_text(inner)
    for file, options in ((None, [f"--{option}={value}"]), (config, [])):
        with pytest.raises(UserError) as caught:
            parse_recipe(Pretrain(), file, options)
        assert words in str(caught.value) and "unexpected" not in str(caught.value) and "\n" not in str(caught.value)


def test_several_numbers_are_as_many_as_their_type_says():
    for wrong in ((0.9,), (0.9, 0.95, 0.99), 0.9, None, ()):
        with pytest.raises(UserError, match=r"optim\.betas .* is out of range: 2 numbers"):
            Optim(betas=wrong)
    for wrong in ((), None, 0.5):
        with pytest.raises(UserError, match=r"data\.mean .* is out of range: one or more numbers"):
            Data(mean=wrong)


def test_numbers_of_numpy_count_as_those_of_python():
    assert Optim(epochs=np.int64(7), base_lr=np.float32(0.5)).epochs == 7
    with pytest.raises(UserError, match=r"optim\.epochs 7 is out of range: a whole number"):
        Optim(epochs=np.float64(7))


def test_a_recipe_of_ones_own_may_state_ranges_and_its_numbers_are_finite_in_any_case():
    @dataclasses.dataclass(frozen=True)
    class Own:
        share: float = dataclasses.field(default=0.5, metadata=within(0, 1, exclude="both"))
        free: float | None = 3.0

        def __post_init__(self):
            check_ranges(self, "own")

    assert Own(free=-7).free == -7 and Own(free=None).free is None
    for wrong, words in (({"share": 1.0}, "own.share 1 is"), ({"free": math.nan}, "own.free nan is")):
        with pytest.raises(UserError, match=words):
            Own(**wrong)


def test_a_batch_larger_than_the_training_cases_is_refused_unless_the_last_one_may_be_smaller():
    Optim(batch_size=8).check_cases(8)
    Optim(batch_size=8, drop_last=False).check_cases(7)
    with pytest.raises(UserError, match=r"optim\.batch_size 8 is larger than the 7 training cases"):
        Optim(batch_size=8).check_cases(7)


def test_statistics_and_channels_are_one_or_three():
    for part, words in (
        (Data, r"data\.mean \[0\.5, 0\.5\]: one value"),
        (Model, r"model\.channels 2: 1 \(grey\) or 3"),
    ):
        with pytest.raises(UserError, match=words):
            part(**({"mean": (0.5, 0.5)} if part is Data else {"channels": 2}))


def test_a_mask_ratio_that_masks_nothing_is_refused():
    from clinvit.pretrain.masked import MaskedPretraining

    tiny = Pretrain(mask_ratio=1e-17, model=Model("micro", image_size=32), augment=Augment(size=32))
    with pytest.raises(UserError, match="mask_ratio 1e-17 masks none of 4 patches"):
        MaskedPretraining.build(tiny)
