"""Fixtures of the PACS's tests."""

from contextlib import contextmanager

import pytest
from clinvit.stages.pacs.queue import Queue


@pytest.fixture
def queue(tmp_path):
    """`queue()` opens the queue of this test, as a listener that starts does."""

    @contextmanager
    def opened(**settings):
        with Queue(tmp_path / "queue", **settings) as found:
            yield found

    return opened
