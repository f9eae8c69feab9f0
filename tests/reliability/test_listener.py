"""The listener takes a thousand objects in ten associations, killed in the middle: nothing lost, nothing twice."""

import pytest
from clinvit.tests.stages.conftest import random_model as random_model
from clinvit.tests.stages.pacs.killed import trial

pytestmark = pytest.mark.reliability


def test_a_thousand_objects_in_ten_associations_with_a_kill_in_the_middle(random_model, tmp_path):
    trial(tmp_path, random_model(), associations=10, studies=10, images=10, quiet_s=8, twice=True)
