"""Images of an archive that are like those of a target set, by features of an encoder.

The rule is the image-based filter of DataComp (Gadre et al., NeurIPS 2023): the archive's features are clustered by
k-means, the nearest centroid of each target image is marked, and an image stays if its own nearest centroid is marked.
Nearest is by inner product of vectors of length 1.
"""

from importlib.util import find_spec

import numpy as np

from ...core.errors import UserError

MOST_CLUSTERS, IMAGES_PER_CLUSTER = 10_000, 10
STEPS = 20  # of faiss, as DataComp
CHUNK = 4096


def usual_clusters(images: int) -> int:
    """Return how many clusters an archive gets unasked: one for ten images, at least 1 and 10,000 at most."""
    return max(1, min(MOST_CLUSTERS, images // IMAGES_PER_CLUSTER))


def unit(features: np.ndarray) -> np.ndarray:
    """Return (N, D) float32 vectors of length 1; those of length 0 stay 0."""
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def centroids(features: np.ndarray, count: int) -> np.ndarray:
    """Return (count, D) centroids of length 1, by faiss where it is installed, else by scikit-learn's mini-batches.

    Args:
        features: (N, D) of length 1, in an order that does not matter to the caller: it matters to k-means.
        count: Clusters, N at most.

    Raises:
        UserError: More clusters than images, or none.
    """
    if not 1 <= count <= len(features):
        raise UserError(f"--clusters {count}: 1 to {len(features):,}, as many as there are images.")
    if find_spec("faiss") is not None:
        import faiss

        means = faiss.Kmeans(
            features.shape[1], count, niter=STEPS, seed=0, spherical=True, min_points_per_centroid=1,
            max_points_per_centroid=len(features),
        )  # fmt: skip
        means.train(np.ascontiguousarray(features))
        return unit(means.centroids)
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(count, random_state=0, n_init=1, batch_size=CHUNK)
    return unit(means.fit(features).cluster_centers_)


def nearest_centroids(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return (N,) places of the centroids with the largest inner product; of equal ones the first."""
    starts = range(0, len(features), CHUNK)
    places = [np.argmax(features[start : start + CHUNK] @ means.T, axis=1) for start in starts]
    return np.concatenate(places) if places else np.empty(0, np.int64)


def like_targets(features: np.ndarray, targets: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return (N,) whether an image's nearest centroid is also the nearest one of a target image.

    Args:
        features: (N, D) of the archive, of length 1.
        targets: (M, D) of the target set, of length 1.
        means: (K, D) centroids.
    """
    marked = np.zeros(len(means), bool)
    marked[nearest_centroids(targets, means)] = True
    return marked[nearest_centroids(features, means)]
