"""The thorax paper's table 6: ChestX-ray14 in the literature, as far as a public transcription prints it."""

from ...stages.reproduce.table import Row, Table, printed_row
from . import phantoms
from .tables import CHESTXRAY14, CHOSEN_ON_TEST, MEAN_AUROC, PAPER, TEST, XRAYS_B, paper_row

OTHERS = "Another group's model: its code and weights are not part of this suite."


def _other(name: str, words: str, value: float, note: str = OTHERS) -> Row:
    return printed_row(name, words, (MEAN_AUROC,), (value,), note)


LITERATURE = Table(
    name="thorax/literature",
    title="Mean AUROC on ChestX-ray14 in the literature",
    source=f"{PAPER}, table 6, as a public transcription prints it: seven of about fifteen rows.",
    task="thorax",
    data=CHESTXRAY14,
    layout="chestxray14",
    metrics=(MEAN_AUROC,),
    rows=(
        _other("wang-2017", "Wang et al. 2017, ResNet-50", 0.745),
        _other("yao-2018", "Yao et al. 2018, ResNet and DenseNet", 0.761),
        _other("guendel-2018", "Guendel et al. 2018, DenseNet-121 (DNetLoc)", 0.807),
        _other("baltruschat-2019", "Baltruschat et al. 2019, ResNet-50", 0.806),
        _other("liu-2022", "Liu et al. 2022, DenseNet-121", 0.818),
        _other("best-cnn-2022", "the best CNN, 2022, DenseNet-121", 0.826,
               "The transcription does not say whose model it is."),
        paper_row("xiao-2022", "Xiao et al. 2022, ViT-B (row vit-b-xrays-mae of thorax/main)", XRAYS_B, 0.830),
    ),
    phantoms=phantoms.chestxray14,
    test=TEST,
    notes=("Which test list each of these papers used is not known to us: metrics on another list are not comparable.",
           CHOSEN_ON_TEST),
)  # fmt: skip

TABLES = {LITERATURE.name: LITERATURE}
