"""Memory of pre-training and fine-tuning by model, and the largest batch of a card, as `--estimate` counts it.

    uv run python benchmarks/memory.py

A dry run over the real operators, bf16 as on a GPU; nothing is allocated. Two sizes of a batch show what a further case
takes, and so what fits: 90 % of a card, the rest is for the kernels' own work and gaps between tensors. With
`--optim.accumulate` the batch may be any multiple of it.
"""

from dataclasses import replace

from clinvit.engine.estimate import USABLE
from clinvit.engine.footprint import footprint
from clinvit.engine.workload import Workload
from clinvit.finetune.workload import workload as finetuning
from clinvit.pretrain.workload import workload as pretraining
from clinvit.tasks import load
from tqdm import tqdm

CARDS_GIB = (16, 24, 80)
CASES = 100_000
GIB = 2**30


def workloads() -> dict[str, Workload]:
    """What is measured, by name."""
    thorax, video = load("thorax"), load("clips")
    found = {}
    for size in ("small", "base", "large", "huge", "giant"):
        recipe = thorax.recipes["pretrain"]["vit_b"]()
        patch = {"patch_size": 14 if size in ("huge", "giant") else 16}
        found[f"MAE, ViT-{size}/{patch['patch_size']}, 224 px"] = pretraining(
            replace(recipe, model=replace(recipe.model, size=size, **patch)), CASES
        )
    for name in ("v2_base", "v2_large", "v2_huge", "v2_giant"):
        recipe = video.recipes["pretrain"][name]()
        # One draw of each clip: the recipes draw four, which are as many cases.
        recipe = replace(recipe, data=replace(recipe.data, clip=replace(recipe.data.clip, repeats=1)))
        model = recipe.model
        found[f"VideoMAE V2, ViT-{model.size}/{model.patch_size}, 16 x 224 px"] = pretraining(recipe, CASES)
    for name in ("vit_s", "vit_b"):
        recipe = thorax.recipes["finetune"][name]()
        found[f"fine-tuning, ViT-{recipe.model.size}/16, 224 px"] = finetuning(recipe, CASES)
    recipe = video.recipes["finetune"]["v2_base_k400"]()
    recipe = replace(recipe, data=replace(recipe.data, clip=replace(recipe.data.clip, repeats=1)))
    found["fine-tuning, ViT-base/16, 16 x 224 px"] = finetuning(recipe, CASES)
    return found


def largest(workload: Workload, recompute: bool) -> tuple[float, float, list[int]]:
    """GiB without a case, GiB of a case, and the cases that fit each card."""
    few, more = (
        footprint(workload, cases, recompute, fused=True, accumulate=True).peak / GIB for cases in (16, 32)
    )  # fmt: skip
    case = (more - few) / 16
    fixed = few - 16 * case
    return fixed, case, [max(0, int((USABLE * card - fixed) / case)) for card in CARDS_GIB]


def main() -> None:
    """Count and print a table, plain / with gradient checkpointing."""
    cards = " | ".join(f"{card} GB" for card in CARDS_GIB)
    print("Cases at once, plain / with --model.checkpoint_blocks true (0: not even one)\n")
    print(f"| training | states | a case | {cards} |\n|---|---|---|" + "---|" * len(CARDS_GIB))
    for name, workload in tqdm(workloads().items(), disable=None):
        workload = replace(workload, run=replace(workload.run, precision="bf16-mixed"))
        fixed, case, plain = largest(workload, False)
        _, saving_case, saving = largest(workload, True)
        fits = " | ".join(f"{a:,} / {b:,}" for a, b in zip(plain, saving, strict=True))
        print(f"| {name} | {fixed:.1f} GiB | {case * 1024:.0f} / {saving_case * 1024:.0f} MiB | {fits} |", flush=True)


if __name__ == "__main__":
    main()
