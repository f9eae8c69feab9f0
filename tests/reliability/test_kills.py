"""kill -9 at any moment of any command: no file is half, and the same command ends with the undisturbed result."""

import numpy as np
import pytest
from clinvit.tests.reliability.commands import assert_same, check_whole, finish, leftovers, remove, show, start
from clinvit.tests.reliability.work import COMMANDS, Work


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def table(request):
    """Rows that are shown when all are there."""
    rows = ["| command | kills | before the end of a run | runs ended with the same result | files opened, all whole |"]
    rows.append("|---|---|---|---|---|")
    yield rows
    show(request, "\n" + "\n".join(rows))


@pytest.mark.parametrize(
    "name, kills",
    [
        pytest.param("prepare", 2, marks=pytest.mark.slow),
        *[pytest.param(name, 10, marks=pytest.mark.reliability) for name in COMMANDS],
        *[pytest.param(name, 100, marks=pytest.mark.soak) for name in COMMANDS],
    ],
)
def test_killed_at_random_moments(work, table, name, kills):
    expected, out = work.undisturbed(name), work.root / "killed" / name
    draw = np.random.default_rng([kills, len(name)])
    remove(out)
    killed = same = opened = 0
    seconds: list[float] = []
    while killed < kills:
        process = start(work.arguments(name, out), work.output)
        after = draw.uniform(0, work.seconds[name])
        process.join(after)
        process.kill()
        process.join()
        if process.exitcode == 0:
            # It was quicker than the kill: begin anew.
            assert_same(out, expected)
            same += 1
            remove(out)
            continue
        assert process.exitcode == -9, work.output.read_text()
        killed += 1
        seconds.append(after)
        opened += check_whole(out)
    finish(work.arguments(name, out), work.output)
    assert_same(out, expected)
    assert not leftovers(out)
    table.append(
        f"| {name} | {killed} | {min(seconds):.2f} to {max(seconds):.2f} of {work.seconds[name]:.2f} s | {same + 1} | "
        f"{opened} |"
    )
