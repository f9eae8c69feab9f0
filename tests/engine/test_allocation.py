"""A step finds the memory that the step before has freed."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")

COUNT = """
import resource, torch
from clinvit.engine.allocation import keep_freed_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 * 2**20)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


def counted(**environment: str) -> tuple[int, int]:
    """Page faults of 20 blocks of 64 MiB as PyTorch comes, and with what is freed kept."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env=clean | environment
    )
    before, after = map(int, done.stdout.split())
    return before, after


def test_freed_memory_is_kept():
    before, after = counted()
    assert before > 300 and after < before / 10  # of large pages there are fewer


def test_settings_of_the_environment_stay():
    before, after = counted(MALLOC_TRIM_THRESHOLD_="1000000")
    assert after > before / 2
