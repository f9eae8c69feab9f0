"""ERDES's tables 1 to 3: eight networks on five two-class tasks, and selective temporal pooling.

Ozkut et al. 2025, arXiv 2508.04735; metrics read from the images of the tables in its public code (docs/media).
"""

from functools import partial
from pathlib import Path

from ...stages.reproduce.table import Finetune, Metric, Printed, Row, Table, TestList
from .recipes import baseline_of_table

Metrics = tuple[float, float, float, float, float]  # sensitivity, specificity, precision, F1, accuracy

CLIPS = 120  # of phantoms: enough for every task to have both classes in every split
HOW = "at a probability of 0.5, as in the paper"
METRICS = (
    Metric("sensitivity", "Sensitivity", 3, f"recall of class 1, {HOW}", cut_off=True),
    Metric("specificity", "Specificity", 3, f"recall of class 0, {HOW}", cut_off=True),
    Metric("precision", "Precision", 3, f"share of right ones among those called 1, {HOW}", cut_off=True),
    Metric("f1", "F1", 3, f"harmonic mean of precision and sensitivity, {HOW}", cut_off=True),
    Metric("accuracy", "Accuracy", 3, HOW, cut_off=True),
)
# Of the official lists in the paper's repository.
LISTS = {
    "normal_vs_rd": TestList(945, "9ddab4ab6cebedda90931d827c1e8cc8a20af76456d449929999feda9aaacd1e"),
    "non_rd_vs_rd": TestList(1077, "177fd3568de3d459df6c26a57bbbac7f18496f246c12f23acf01c339ebb6e0dd"),
    "pvd_vs_rd": TestList(230, "7e0d9ea351bec0adaf495c32636ad78f0828c04d565dab934688a519ecd83915"),
    "macula_detached_vs_intact": TestList(101, "49f4f86edba982186686057bc3b1a78822dcd4192a7ebf0d5ffbf07999ce178e"),
    "normal_vs_pvd": TestList(976, "239a82198eac0b1fb045679d3b14e5fdbab488451ac12b44d12db0811cd1ebd5"),
}
NETWORKS = {
    "vit3d": "ViT",
    "unetr": "UNETR",
    "senet154": "SENet154",
    "swinunetr": "Swin-UNETR",
    "vnet": "V-Net",
    "resnet3d": "3D ResNet",
    "unetplusplus": "UNet++",
    "unet3d": "3D U-Net",
}

NORMAL_VS_RD: dict[str, Metrics] = {
    "vit3d": (0.643, 0.971, 0.730, 0.684, 0.937),
    "unetr": (0.702, 0.975, 0.771, 0.735, 0.946),
    "senet154": (0.732, 0.995, 0.948, 0.826, 0.967),
    "swinunetr": (0.742, 0.971, 0.757, 0.750, 0.947),
    "vnet": (0.831, 0.997, 0.976, 0.898, 0.980),
    "resnet3d": (0.900, 0.987, 0.892, 0.896, 0.977),
    "unetplusplus": (0.910, 0.994, 0.948, 0.929, 0.985),
    "unet3d": (0.950, 0.996, 0.969, 0.959, 0.991),
}
PVD_VS_RD: dict[str, Metrics] = {
    "vit3d": (0.676, 0.790, 0.718, 0.696, 0.740),
    "unetr": (0.617, 0.883, 0.807, 0.699, 0.766),
    "senet154": (0.705, 0.961, 0.935, 0.804, 0.848),
    "swinunetr": (0.774, 0.744, 0.705, 0.738, 0.757),
    "vnet": (0.794, 0.860, 0.818, 0.805, 0.831),
    "resnet3d": (0.882, 0.875, 0.849, 0.865, 0.878),
    "unetplusplus": (0.921, 0.860, 0.839, 0.878, 0.887),
    "unet3d": (0.901, 0.852, 0.828, 0.863, 0.874),
}
NON_RD_VS_RD: dict[str, Metrics] = {
    "vit3d": (0.689, 0.969, 0.696, 0.693, 0.943),
    "unetr": (0.569, 0.972, 0.678, 0.619, 0.935),
    "senet154": (0.689, 0.992, 0.907, 0.784, 0.964),
    "swinunetr": (0.680, 0.980, 0.781, 0.727, 0.952),
    "vnet": (0.829, 0.994, 0.943, 0.882, 0.979),
    "resnet3d": (0.939, 0.978, 0.817, 0.874, 0.974),
    "unetplusplus": (0.879, 0.986, 0.871, 0.875, 0.976),
    "unet3d": (0.920, 0.988, 0.893, 0.906, 0.982),
}
MACULA: dict[str, Metrics] = {
    "vit3d": (0.699, 0.741, 0.636, 0.666, 0.725),
    "unetr": (0.774, 0.709, 0.632, 0.696, 0.735),
    "senet154": (0.625, 0.903, 0.806, 0.704, 0.794),
    "swinunetr": (0.699, 0.806, 0.699, 0.699, 0.764),
    "vnet": (0.824, 0.806, 0.733, 0.776, 0.813),
    "resnet3d": (0.750, 0.935, 0.882, 0.810, 0.862),
    "unetplusplus": (0.699, 0.967, 0.933, 0.800, 0.862),
    "unet3d": (0.899, 0.870, 0.818, 0.857, 0.882),
}
NORMAL_VS_PVD: dict[str, Metrics] = {
    "vit3d": (0.453, 0.964, 0.662, 0.538, 0.896),
    "unetr": (0.453, 0.974, 0.728, 0.559, 0.904),
    "senet154": (0.569, 0.968, 0.732, 0.640, 0.915),
    "swinunetr": (0.415, 0.975, 0.720, 0.526, 0.900),
    "vnet": (0.500, 0.969, 0.714, 0.588, 0.906),
    "resnet3d": (0.638, 0.982, 0.846, 0.728, 0.936),
    "unetplusplus": (0.492, 0.981, 0.800, 0.609, 0.916),
    "unet3d": (0.784, 0.985, 0.894, 0.836, 0.959),
}
# Network and share of the time steps that are kept; of SENet154 and Swin-UNETR the paper has no 70 %, of ViT none.
TOP: dict[tuple[str, float], Metrics] = {
    ("unetr", 0.7): (0.484, 0.965, 0.684, 0.567, 0.901),
    ("vnet", 0.7): (0.453, 0.961, 0.641, 0.531, 0.893),
    ("resnet3d", 0.7): (0.723, 0.982, 0.862, 0.786, 0.947),
    ("unetplusplus", 0.7): (0.676, 0.974, 0.800, 0.733, 0.934),
    ("unet3d", 0.7): (0.800, 0.983, 0.881, 0.838, 0.959),
    ("unetr", 0.5): (0.553, 0.950, 0.631, 0.590, 0.897),
    ("senet154", 0.5): (0.530, 0.969, 0.726, 0.613, 0.911),
    ("swinunetr", 0.5): (0.538, 0.961, 0.679, 0.600, 0.904),
    ("vnet", 0.5): (0.492, 0.959, 0.653, 0.561, 0.897),
    ("resnet3d", 0.5): (0.607, 0.983, 0.849, 0.708, 0.933),
    ("unetplusplus", 0.5): (0.630, 0.982, 0.845, 0.722, 0.935),
    ("unet3d", 0.5): (0.800, 0.976, 0.838, 0.818, 0.952),
    ("unetr", 0.3): (0.561, 0.938, 0.583, 0.572, 0.888),
    ("senet154", 0.3): (0.584, 0.965, 0.723, 0.646, 0.915),
    ("swinunetr", 0.3): (0.530, 0.963, 0.689, 0.600, 0.905),
    ("vnet", 0.3): (0.446, 0.966, 0.674, 0.537, 0.897),
    ("resnet3d", 0.3): (0.476, 0.983, 0.815, 0.601, 0.916),
    ("unetplusplus", 0.3): (0.699, 0.983, 0.866, 0.774, 0.945),
    ("unet3d", 0.3): (0.807, 0.977, 0.846, 0.826, 0.955),
}

EVERYWHERE = (
    "All metrics are at a probability of 0.5, as in the paper; the epoch is the one of best accuracy on validation.",
    "The paper's values are cut off, not rounded, after the third decimal (our reading of them).",
    "The paper's splits are the official lists; on any other split the metrics are of other clips.",
    "These splits are by clip, and no patients or eyes are published: clips of one eye may be in training and test.",
)
THREE_PROCESSES = (
    "The paper's values fit a test set of {} clips, the list has {}: it seems to have been tested by three processes, "
    "whose sampler gives a clip or two twice, and these were counted. Expect a difference of a clip or two."
)


def phantoms(out: Path) -> Path:
    """Write invented clips in the tree of ERDES; return the manifest.

    Args:
        out: Folder to write; what is whole there is not written again.
    """
    from ...phantoms.ocular import write_erdes
    from ...stages.data import MANIFEST
    from ...stages.prepare import prepare_phantoms
    from .layouts import LAYOUTS

    write = partial(write_erdes, clips=CLIPS, size_px=96, seconds=(0.8, 1.2))
    return prepare_phantoms(write, LAYOUTS, out / "erdes", out / MANIFEST)


def _row(network: str, task: str, metrics: Metrics, top_share: float | None = None) -> Row:
    name, words = network, NETWORKS[network]
    if top_share is not None:
        name, words = f"{name}-top{top_share * 100:.0f}", f"{words}, top {top_share * 100:.0f} %"
    step = Finetune(f"{name}-{task}", partial(baseline_of_table, network, task, top_share), encoder="none")
    paper = {metric.key: Printed(value) for metric, value in zip(METRICS, metrics, strict=True)}
    return Row(name, words, (step,), paper, labels=(task,))


def _table(name: str, number: int, title: str, task: str, rows: tuple[Row, ...], notes: tuple[str, ...]) -> Table:
    return Table(
        f"erdes/{name}",
        title,
        f"ERDES (Ozkut et al. 2025, arXiv 2508.04735), table {number}",
        task="erdes",
        data="the clips of ERDES with the official lists (data/splits of the paper's code) in the same folder; or "
        f"`clinvit prepare erdes CLIPS --out data.csv --option splits=LISTS --option official_task={task}`",
        layout="erdes",
        metrics=METRICS,
        rows=rows,
        phantoms=phantoms,
        rule="0.5",
        unit="clip",
        options={"official_task": task, "own_split": True},
        test=LISTS[task],
        notes=(*notes, *EVERYWHERE),
    )


def _rows(task: str, metrics: dict[str, Metrics]) -> tuple[Row, ...]:
    return tuple(_row(network, task, values) for network, values in metrics.items())


DETECTION = "{} against retinal detachment"
PVD_NOTE = THREE_PROCESSES.format(978, 976)
NORMAL_VS_PVD_ROWS = _rows("normal_vs_pvd", NORMAL_VS_PVD)
_TABLES = (
    _table(
        "normal_vs_rd",
        1,
        DETECTION.format("Normal"),
        "normal_vs_rd",
        _rows("normal_vs_rd", NORMAL_VS_RD),
        (
            "The list has 100 detachments, but the metrics of ViT, UNETR, SENet154, Swin-UNETR, V-Net and 3D ResNet "
            "fit 101 only: these six seem to have been tested on another version of the split.",
        ),
    ),
    _table(
        "non_rd_vs_rd",
        1,
        DETECTION.format("Normal or vitreous detachment"),
        "non_rd_vs_rd",
        _rows("non_rd_vs_rd", NON_RD_VS_RD),
        ("All metrics of the paper fit the list: 100 clips with detachment, 977 without.",),
    ),
    _table(
        "pvd_vs_rd",
        1,
        DETECTION.format("Vitreous detachment (PVD)"),
        "pvd_vs_rd",
        _rows("pvd_vs_rd", PVD_VS_RD),
        (THREE_PROCESSES.format(231, 230),),
    ),
    _table(
        "macula",
        2,
        "Macula detached against intact",
        "macula_detached_vs_intact",
        _rows("macula_detached_vs_intact", MACULA),
        (
            "Class 1 is the INTACT macula: sensitivity is that of intact eyes, the benign state.",
            THREE_PROCESSES.format(102, 101),
        ),
    ),
    _table(
        "normal_vs_pvd",
        3,
        "Normal against vitreous detachment (PVD), average pooling",
        "normal_vs_pvd",
        NORMAL_VS_PVD_ROWS,
        (PVD_NOTE,),
    ),
    _table(
        "pooling",
        3,
        "Normal against vitreous detachment (PVD), selective temporal pooling",
        "normal_vs_pvd",
        (*NORMAL_VS_PVD_ROWS, *(_row(name, "normal_vs_pvd", metrics, share) for (name, share), metrics in TOP.items())),
        (
            PVD_NOTE,
            "3D ResNet and SENet154 have one linear layer with average pooling and two with selective pooling: their "
            "rows compare more than the pooling.",
        ),
    ),
)

TABLES = {table.name: table for table in _TABLES}
