"""An error that comes from a loading process is the line that was meant, not the traceback around it."""

import pytest
from clinvit.core.errors import DataError, RunError
from clinvit.engine.workers import reporting_killed_readers
from torch._utils import ExceptionWrapper


@pytest.mark.parametrize("kind", [DataError, RunError])
def test_an_error_of_a_process_is_one_line(kind):
    with pytest.raises(kind) as told, reporting_killed_readers("Repeat."):
        try:
            raise kind("a.png: damaged. Copy it again.")
        except kind:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        assert "Traceback" in wrapped.exc_msg
        wrapped.reraise()
    assert str(told.value) == "a.png: damaged. Copy it again."
    with pytest.raises(kind, match=r"^b\.png: as it is\.$"), reporting_killed_readers("Repeat."):
        raise kind("b.png: as it is.")
