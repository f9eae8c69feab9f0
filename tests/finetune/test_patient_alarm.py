"""The patient alarm: its limit and exact interval, what an image is held against, and files that are none."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from clinvit.core.errors import UserError
from clinvit.finetune.patient_alarm import PatientAlarm, claims, limit_of, read_alarm, write_alarm


def alarm(**other) -> PatientAlarm:
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(4, 3))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    names, cases = [16 * "a", 16 * "a", 16 * "b", 16 * "c"], [16 * str(n) for n in range(4)]
    made = PatientAlarm(
        np.zeros(3), np.ones(3), np.eye(3), gallery, tuple(names), tuple(cases), 0.5, 3, 59, 0.8, 64 * "0", 16 * "f"
    )
    return replace(made, **other)


@pytest.mark.parametrize(("patients", "rate"), [(19, 0.05), (59, 0.05), (26, 0.1)])
def test_the_interval_of_the_false_alarm_rate_covers(patients, rate):
    """Likenesses are of U(0, 1), so that the limit itself is the share of right claims that it flags."""
    rng = np.random.default_rng(1)
    true, places = np.array([limit_of(rng.random(patients), rate) for _ in range(4000)]).T
    low, high = alarm(place=int(places[0]), validation=patients).interval()
    assert abs(np.mean((low <= true) & (true <= high)) - 0.95) < 0.012
    assert np.mean(true) <= rate + 0.003
    assert np.mean(true) == pytest.approx(places[0] / (patients + 1), abs=0.004), "the rate that is stated"


def test_too_few_patients_for_a_rate_say_how_many_it_needs():
    with pytest.raises(UserError, match=r"12 patients of the split val .* needs 19"):
        limit_of(np.zeros(12), 0.05)
    with pytest.raises(UserError, match="above 0 and below 1"):
        limit_of(np.zeros(12), 1.5)


def test_an_image_is_held_against_earlier_images_of_the_patient_without_itself():
    made = alarm()
    found = made.likeness(made.gallery[0], 16 * "a", 16 * "0")
    assert found.own == pytest.approx(made.gallery[0] @ made.gallery[1])
    others = made.gallery[2:] @ made.gallery[0]
    assert found.other == pytest.approx(others.max()) and found.rank == (others > found.own).sum()
    assert np.isnan(made.likeness(made.gallery[2], 16 * "b", 16 * "2").own), "nothing but itself"
    assert not made.flags(made.likeness(made.gallery[2], 16 * "b", 16 * "2"))
    copy = made.likeness(made.gallery[0], 16 * "a")
    assert copy.own == found.own, "a copy under another id is no earlier image either"
    assert made.likeness(made.gallery[0], 16 * "b").other == pytest.approx(1), "under another patient it counts"


def test_right_and_wrong_claims_are_one_of_each_patient_with_two_images():
    vectors = np.repeat(np.eye(5), [2, 2, 2, 1, 3], axis=0)
    patients = [*"aabbccdeee"]
    right, wrong = claims(vectors, patients, np.random.default_rng(0))
    assert right.tolist() == [1] * 4 and wrong.tolist() == [0] * 4


def test_an_alarm_is_written_for_its_owner_alone_and_read_again(tmp_path):
    path, made = tmp_path / "alarm.safetensors", alarm()
    write_alarm(path, made)
    assert path.stat().st_mode & 0o077 == 0
    again = read_alarm(path)
    assert (again.patients, again.cases, again.model, again.key) == (made.patients, made.cases, made.model, made.key)
    assert (again.limit, again.place, again.validation, again.caught) == (0.5, 3, 59, 0.8)
    assert np.allclose(again.gallery, made.gallery)


def test_files_that_are_no_alarm_are_refused_in_one_line(tmp_path):
    path = tmp_path / "alarm.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_alarm(path)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="alarm"):
        read_alarm(path)
    write_alarm(path, alarm())
    state = safetensors.numpy.load_file(path)
    for name, value in (
        ("gallery", state["gallery"][:3]),
        ("std", 0 * state["std"]),
        ("numbers", np.array([np.nan, 1, 2, 0])),
    ):
        safetensors.numpy.save_file(state | {name: value}, path)
        with pytest.raises(UserError, match="no readable patient alarm"):
            read_alarm(path)
