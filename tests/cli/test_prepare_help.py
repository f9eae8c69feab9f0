"""The help of `prepare` says what every option of every layout means."""

import inspect

import pytest
from clinvit.cli.options import layout_options, layouts_help
from clinvit.tasks import all_tasks

LAYOUTS = [(task, name) for task in all_tasks() for name in task.layouts()]


@pytest.mark.parametrize(("task", "name"), LAYOUTS, ids=[f"{task.name}-{name}" for task, name in LAYOUTS])
def test_every_option_of_a_layout_has_a_description(task, name):
    read = task.layouts()[name].read
    options = layout_options(read)
    keywords = [key for key, each in inspect.signature(read).parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert set(options) == set(keywords) - {"unit"}
    assert not [key for key, words in options.items() if not words]
    text = layouts_help(task, everything=True)
    assert all(f"    {key} (" in text and words in text for key, words in options.items())
