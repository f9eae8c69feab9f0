"""Images like a target's: the filter equals brute force, and k-means finds what is there."""

import numpy as np
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.quality import target_filter
from clinvit.datasets.quality.target_filter import centroids, like_targets, nearest_centroids, unit, usual_clusters


@pytest.mark.parametrize("chunk", [7, 4096])
def test_the_filter_equals_brute_force(chunk, monkeypatch):
    monkeypatch.setattr(target_filter, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    features, targets, means = (unit(rng.normal(size=(n, 12))) for n in (500, 9, 40))
    marked = {max(range(40), key=lambda k: float(np.dot(target, means[k]))) for target in targets}
    stays = [max(range(40), key=lambda k: float(np.dot(one, means[k]))) in marked for one in features]
    found = like_targets(features, targets, means)
    assert 0 < found.sum() < 500
    np.testing.assert_array_equal(found, stays)


def test_groups_that_lie_apart_are_found():
    rng = np.random.default_rng(1)
    middle = np.eye(6)[:4] * 5
    group = rng.permutation(np.repeat(np.arange(4), 50))
    features = unit(middle[group] + rng.normal(0, 0.3, (200, 6)))
    means = centroids(features, 4)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, atol=1e-6)
    places = nearest_centroids(features, means)
    assert len({(a, b) for a, b in zip(group, places)}) == 4
    np.testing.assert_array_equal(like_targets(features, features[group == 2][:3], means), group == 2)
    np.testing.assert_array_equal(centroids(features, 4), means)


def test_small_and_odd_ones():
    one = unit([[0.0, 0.0]])
    np.testing.assert_array_equal(one, [[0, 0]])
    same = unit(np.ones((5, 3)))
    assert like_targets(same, same[:1], centroids(same, 1)).all()
    assert not like_targets(same, same[:0], centroids(same, 1)).any()
    for count in (0, 6):
        with pytest.raises(UserError, match="--clusters"):
            centroids(same, count)
    assert [usual_clusters(n) for n in (1, 10, 755, 10**6)] == [1, 1, 75, 10_000]
