"""What the environment of a launcher says of its processes."""

import pytest
from clinvit.engine.launcher import meeting_point

STEP = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "2"}


@pytest.mark.parametrize(
    "said, expected",
    [
        ({}, "env://"),
        ({"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, "env://"),
        (STEP | {"SLURM_STEP_NODELIST": "gpu[03-05],cpu1"}, "tcp://gpu03:16428"),
        (STEP | {"MASTER_ADDR": "head", "MASTER_PORT": "29500"}, "tcp://head:29500"),
    ],
    ids=["alone", "torchrun", "srun", "srun with a named place"],
)
def test_where_processes_find_each_other(monkeypatch, said, expected):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_STEP_NODELIST", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert meeting_point() == expected
