"""The pages' templates: everything that comes from data is escaped, and a name that is missing is an error."""

from importlib import resources

import jinja2
import markupsafe


def environment() -> jinja2.Environment:
    """Return Jinja2 over the folder `templates`."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inlined(name: str) -> markupsafe.Markup:
    """Return a style sheet or script of ours, to be put into a page as it is."""
    return markupsafe.Markup(_text(name))


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
