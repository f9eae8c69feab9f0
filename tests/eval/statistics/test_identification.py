"""Retrieval of a patient's images, the robustness index, probes and membership: against brute force and croma 1.0.1."""

import numpy as np
import pytest
from clinvit.eval.statistics.context_probe import context_probe
from clinvit.eval.statistics.identification import alike_patients, identification, identification_by_time
from clinvit.eval.statistics.membership import losses, membership
from clinvit.eval.statistics.robustness_index import robustness_index
from clinvit.eval.statistics.shadow_attack import difficulty
from sklearn.metrics import log_loss, roc_auc_score


def brute(features, patients, groups):
    """P@1, mAP@R and the pairs, as their definitions read."""
    f = features / np.linalg.norm(features, axis=1, keepdims=True)
    first, average, truth, scores = [], [], [], []
    for i in range(len(f)):
        others = [j for j in range(len(f)) if j != i and (patients[j] == patients[i] or groups[j] == groups[i])]
        ranked = sorted(others, key=lambda j: -(f[i] @ f[j]))
        relevant = sum(patients[j] == patients[i] for j in ranked)
        if relevant:
            hit = [patients[j] == patients[i] for j in ranked[:relevant]]
            first.append(hit[0])
            average.append(sum(sum(hit[: k + 1]) / (k + 1) for k in range(relevant) if hit[k]) / relevant)
        for j in others:
            if j > i:
                truth.append(patients[j] == patients[i])
                scores.append(f[i] @ f[j])
    return np.mean(first), np.mean(average), roc_auc_score(truth, scores), len(truth)


@pytest.mark.parametrize("scanners", [1, 3])
def test_identification_is_what_its_definition_says(scanners):
    rng = np.random.default_rng(3)
    patients = [f"p{i}" for i in rng.integers(0, 30, 90)]
    groups = [f"s{i}" for i in rng.integers(0, scanners, 90)]
    own = {name: rng.normal(size=8) for name in set(patients)}
    features = np.array([own[name] for name in patients]) + rng.normal(size=(90, 8))
    found = identification(features, patients, groups)
    first, average, area, pairs = brute(features, patients, groups)
    assert found.precision_at_1.value == pytest.approx(first, abs=1e-12)
    assert found.map_at_r.value == pytest.approx(average, abs=1e-12)
    assert found.auroc.value == pytest.approx(area, abs=1e-12)
    assert found.same + found.other == pairs
    for each in (found.precision_at_1, found.map_at_r, found.auroc):
        assert np.isnan(each.low) and "no interval" in each.reason, "a bootstrap by patient covers too little"


def test_pairs_that_are_linked_are_counted_at_one_false_match_in_ten_thousand():
    rng = np.random.default_rng(0)
    patients = [f"p{i // 2}" for i in range(300)]
    features = np.repeat(rng.normal(size=(150, 16)), 2, axis=0) + 0.1 * rng.normal(size=(300, 16))
    found = identification(features, patients)
    assert found.linked.value == pytest.approx(1.0) and found.other == 300 * 299 // 2 - 150
    few = identification(features[:20], patients[:20])
    assert np.isnan(few.linked.value) and "needed" in few.linked.reason


def test_no_patient_with_two_images_has_a_reason_and_no_number():
    found = identification(np.eye(4), list("abcd"))
    assert found.queries == 0 and np.isnan(found.precision_at_1.value) and found.precision_at_1.reason


def test_lengths_and_numbers_are_checked():
    with pytest.raises(ValueError, match="one of each"):
        identification(np.eye(3), ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        identification(np.full((2, 2), np.nan), ["a", "b"])


def test_one_patient_under_two_numbers_is_listed_first():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 12))
    features[31] = features[7] + 0.01
    row, other, likeness = alike_patients(features, [f"p{i}" for i in range(40)], most=5)[0]
    assert (row, other) == (7, 31) and likeness > 0.99
    assert alike_patients(features, ["one"] * 40) == []


def croma_case():
    """The input of which croma 1.0.1 gave the numbers below."""
    rng, n = np.random.default_rng(0), 60
    label, site = np.arange(n) % 2, (np.arange(n) // 2) % 3
    features = rng.normal(size=(n, 6))
    features[:, 0] += 1.2 * label
    features[:, 1] += 1.0 * site
    patients = [f"p{i // 4}" for i in range(n)]
    return features, [f"c{x}" for x in label], [f"h{x}" for x in site], patients


@pytest.mark.parametrize("k, value", [(3, 0.6086956521739131), (5, 0.6346153846153846), (11, 0.6376811594202898)])
def test_the_robustness_index_equals_cromas(k, value):
    assert robustness_index(*croma_case(), candidates=(k,)).index.value == pytest.approx(value, abs=1e-12)


def test_k_is_that_of_the_best_balanced_accuracy_as_cromas():
    found = robustness_index(*croma_case(), candidates=(3, 5, 11))
    assert found.neighbours == 5 and found.counted == pytest.approx(0.95)
    assert np.isnan(found.index.low) and found.index.reason


def test_the_robustness_index_knows_who_sees_what():
    rng = np.random.default_rng(2)
    label, site = np.arange(200) % 2, (np.arange(200) // 2) % 2
    noise = 0.1 * rng.normal(size=(200, 2))
    names = [str(i) for i in range(200)]
    sees = lambda what: robustness_index(np.column_stack([what, 1 - what]) + noise, label, site, names, (5,))
    assert sees(label).index.value > 0.95 and sees(site).index.value < 0.05
    with pytest.raises(ValueError, match="two sites"):
        robustness_index(noise, label, np.zeros(200), names)


def test_a_probe_finds_what_is_there_on_patients_it_has_not_seen():
    rng = np.random.default_rng(4)
    patients = [f"p{i // 2}" for i in range(240)]
    site = np.repeat(rng.integers(0, 2, 120), 2)
    features = rng.normal(size=(240, 10))
    blind = context_probe(features, site, patients)
    assert abs(blind.value - 0.5) < 0.1 and np.isnan(blind.low) and blind.reason
    # A patient's own fingerprint must not help: it is in one fold alone.
    fingerprint = np.repeat(10 * rng.normal(size=(120, 10)), 2, axis=0)
    assert context_probe(fingerprint, site, patients).value < 0.65
    features[:, 0] += 3 * site
    assert context_probe(features, site, patients).value > 0.8
    assert np.isnan(context_probe(features, np.zeros(240), patients).value)
    assert "needed" in context_probe(features, np.arange(240) < 3, patients).reason


def test_losses_are_cross_entropies_of_what_is_known():
    truth = np.array([[1, 0], [0, np.nan], [np.nan, np.nan]])
    scores = np.array([[0.8, 0.3], [0.4, 0.9], [0.5, 0.5]])
    found = losses(truth, scores)
    assert found[0] == pytest.approx(log_loss([1, 0], [0.8, 0.3])) and found[1] == pytest.approx(-np.log(0.6))
    assert np.isnan(found[2])


def test_membership_is_told_where_losses_differ_alone():
    rng = np.random.default_rng(5)
    member, patients = np.arange(400) < 200, [f"p{i}" for i in range(400)]
    equal = membership(member, rng.normal(size=400), patients)
    assert equal.low < 0.5 < equal.high
    told = membership(member, rng.normal(size=400) - member, patients)
    assert told.low > 0.6
    assert "nobody" in membership(np.ones(5, bool), np.ones(5), list("abcde")).reason


def attacked(rng, patients: int, effect: float, dims: int = 4):
    """Cases of two images a patient, of unequal difficulty; `effect` is how far training lowers the logarithm of odds.

    Returns membership, loss, and loss less difficulty, by case, and the patients.
    """
    who = np.repeat(np.arange(patients), 2)
    truth = rng.integers(0, 2, patients)[who].astype(float)
    signal = 1 + 1.5 * rng.normal(size=patients)[who]  # how well the finding is seen: what makes cases hard
    features = rng.normal(size=(len(who), dims))
    features[:, 0] = signal * (2 * truth - 1)
    member = (rng.permutation(patients) < patients // 2)[who]
    right = features[:, 0] * (2 * truth - 1) + effect * member + 0.3 * rng.normal(size=len(who))
    scores = 1 / (1 + np.exp(-right * (2 * truth - 1)))
    loss = losses(truth[:, None], scores[:, None])
    return member, loss, loss - difficulty(features, truth[:, None], who.astype(str)), who.astype(str)


def test_shadow_heads_tell_members_that_losses_hide():
    """Hard and easy cases hide what training did to the loss; heads that never saw a case know how hard it is."""
    member, loss, beside, patients = attacked(np.random.default_rng(0), 150, 1.0)
    alone, shadow = membership(member, loss, patients), membership(member, beside, patients)
    assert shadow.low > 0.6 and shadow.value > alone.value + 0.05
    member, loss, beside, patients = attacked(np.random.default_rng(1), 150, 0.0)
    nothing = membership(member, beside, patients)
    assert nothing.low < 0.5 < nothing.high


def test_difficulty_is_of_heads_that_did_not_see_the_patient():
    """A head that had seen the patient's other image would find the case easy."""
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(60), 2)
    features = np.repeat(10 * rng.normal(size=(60, 40)), 2, axis=0)  # a fingerprint, no finding
    truth = rng.integers(0, 2, 60)[who].astype(float)[:, None]
    assert np.nanmean(difficulty(features, truth, who.astype(str))) > 0.65
    assert np.isnan(difficulty(features[:8], truth[:8], who[:8].astype(str))).all()


@pytest.mark.thorough
@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_the_interval_of_the_shadow_attack_covers(effect):
    """What an attack with an archive of this size is worth: more cases make better heads, and another truth."""
    found = []
    for seed in range(150):
        member, _, beside, who = attacked(np.random.default_rng(100 + seed), 60, effect)
        found.append(membership(member, beside, who, seed=seed))
    true = np.mean([each.value for each in found])
    assert np.mean([each.low <= true <= each.high for each in found]) >= 0.91


def test_by_time_is_the_definition_among_the_pairs_of_a_bin():
    """Brute force: of the query's patient the images in the bin alone, of others all; one threshold for all bins."""
    rng = np.random.default_rng(5)
    patients = [f"p{i}" for i in rng.integers(0, 20, 80)]
    groups = [f"s{i}" for i in rng.integers(0, 2, 80)]
    times = rng.integers(0, 6, 80).astype(float)
    times[::9] = np.nan
    own = {name: rng.normal(size=8) for name in set(patients)}
    features = np.array([own[name] for name in patients]) + rng.normal(size=(80, 8))
    f = features / np.linalg.norm(features, axis=1, keepdims=True)
    bins = [(0, 1), (1, 3), (3, np.inf)]
    for (least, below), found in zip(bins, identification_by_time(features, patients, groups, times, bins)):
        first, average, truth, scores = [], [], [], []
        for i in range(80):
            near = [
                j
                for j in range(80)
                if j != i and patients[j] == patients[i] and least <= abs(times[i] - times[j]) < below
            ]
            far = [j for j in range(80) if patients[j] != patients[i] and groups[j] == groups[i]]
            ranked = sorted(near + far, key=lambda j: -(f[i] @ f[j]))
            if near:
                hit = [j in near for j in ranked[: len(near)]]
                first.append(hit[0])
                average.append(sum(sum(hit[: k + 1]) / (k + 1) for k in range(len(near)) if hit[k]) / len(near))
            truth += [j in near for j in near + far if j > i]
            scores += [f[i] @ f[j] for j in near + far if j > i]
        assert found.precision_at_1.value == pytest.approx(np.mean(first), abs=1e-12)
        assert found.map_at_r.value == pytest.approx(np.mean(average), abs=1e-12)
        assert found.auroc.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert (found.queries, found.same, found.other) == (len(first), sum(truth), len(truth) - sum(truth))
