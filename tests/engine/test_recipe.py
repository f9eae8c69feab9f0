"""Recipes: overrides in order, unknown keys refused with the nearest name, YAML that reads back."""

from dataclasses import dataclass, field

import pytest
from clinvit.core.errors import UserError
from clinvit.engine.recipe import Optim, Run, flat, parse_recipe, plain, recipe_parser, to_yaml


@dataclass(frozen=True)
class Example:
    """An example.

    Attributes:
        ratio: A share.
        name: A name, or null.
        optim: Optimiser.
        run: Run.
    """

    ratio: float = 0.9
    name: str | None = None
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)


def test_yaml_then_options_win(tmp_path):
    config = tmp_path / "recipe.yaml"
    config.write_text("ratio: 0.5\noptim:\n  epochs: 7\n  betas: [0.8, 0.9]\n")
    recipe = parse_recipe(Example(ratio=0.1), config, ["--optim.epochs", "6", "--run.seed=5", "--name=x"])
    assert recipe == Example(0.5, "x", Optim(epochs=6, betas=(0.8, 0.9)), Run(seed=5))


def test_defaults_of_the_named_recipe_survive():
    default = Example(0.3, "mine", Optim(epochs=11, clip_norm=1.0))
    assert parse_recipe(default) == default
    assert parse_recipe(default, options=["--optim.clip_norm", "null"]).optim.clip_norm is None


def test_what_is_written_reads_back(tmp_path):
    recipe = Example(0.25, None, Optim(betas=(0.1, 0.2)))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert parse_recipe(Example(), tmp_path / "recipe.yaml") == recipe
    assert plain(recipe)["optim"]["betas"] == [0.1, 0.2]
    assert list(flat(recipe))[:3] == ["ratio", "name", "optim.epochs"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--optim.epoch", "3"], "unknown recipe key 'optim.epoch'; did you mean 'optim.epochs'"),
        (["--epochs", "3"], "did you mean 'optim.epochs'"),
        (["--rato=1"], "did you mean 'ratio'"),
        (["--zzzzzz", "1"], "known: ratio"),
        (["--optim.epochs", "many"], "many"),
        (["--ratio", "high"], "high"),
    ],
)
def test_wrong_options_say_so(options, words):
    with pytest.raises(UserError, match=words):
        parse_recipe(Example(), options=options)


@pytest.mark.parametrize(
    "text, words",
    [
        ("optim:\n  epoch: 3\n", "did you mean 'optim.epochs'"),
        ("- a\n- b\n", "key: value"),
        ("a: [", "not readable YAML"),
        ("ratio: !!python/object/apply:os.system ['true']\n", "not readable YAML"),
    ],
)
def test_wrong_files_say_so(tmp_path, text, words):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        parse_recipe(Example(), path)
    with pytest.raises(UserError, match="no such file"):
        parse_recipe(Example(), tmp_path / "none.yaml")


def test_help_explains_every_field():
    text = recipe_parser(Example()).format_help()
    assert "--optim.base_lr" in text and "Learning rate per 256 cases" in text
