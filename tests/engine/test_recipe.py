"""Recipes: overrides in order, unknown keys refused with the nearest name, YAML that reads back."""

import sys
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


class Watched(list):
    """What was imported and opened while it was active."""

    active = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.active and event in ("open", "import", "os.listdir", "os.scandir"):
            self.append(str(arguments[0]))


WATCHED = Watched()
sys.addaudithook(WATCHED)  # cannot be taken off again


@pytest.mark.parametrize(
    "text",
    [
        "optim: antigravity.Evil", "optim: ./bomb.yaml", "optim: {class_path: antigravity.Evil}", "optim: 3",
        "optim:\n  class_path: antigravity.Evil\n  init_args: {}", "optim: [antigravity.Evil]", "optim: null",
        "optim: {epochs: {a: 1}}", "config: bomb.yaml", "__default_config__: bomb.yaml",
        "run: {track: bomb.yaml}", "run: {track: [bomb.yaml]}", "optim: {betas: bomb.yaml}",
        "optim: {epochs: antigravity.Evil}", "optim: {clip_norm: bomb.yaml}", "1: 2", "optim: {1: 2}",
    ],
)  # fmt: skip
def test_nothing_that_a_recipe_says_is_imported_or_opened(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.yaml").write_text("epochs: 5\n")
    (tmp_path / "r.yaml").write_text(text)
    parse_recipe(Example(), options=["--run.seed=5"])  # imports jsonargparse
    key, _, value = text.partition(": ")
    for config, options in (
        (tmp_path / "r.yaml", []), (None, [f"--{key}={value}"]), (None, [f"--{key}", value]),
        (None, ["--config=bomb.yaml"]), (None, ["--optim", "bomb.yaml"]),
    ):  # fmt: skip
        WATCHED.clear()
        WATCHED.active = True
        try:
            with pytest.raises(UserError) as caught:
                parse_recipe(Example(), config, options)
        finally:
            WATCHED.active = False
        assert "unexpected" not in str(caught.value) and "\n" not in str(caught.value)
        touched = [name for name in WATCHED if "antigravity" in name or "bomb" in name]
        assert touched == [], (options, touched)


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
