"""What a run costs, told before it starts: the dry run against real steps, parts that fit, and the command."""

from dataclasses import replace

import pytest
import torch
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.engine import estimate as module
from clinvit.engine.estimate import largest, timed
from clinvit.engine.footprint import Footprint, LiveBytes, bytes_of, flops_per_case, footprint
from clinvit.pretrain.workload import workload
from clinvit.tasks.slides.recipes import PRETRAIN as SLIDES

SMALL = (
    "--model.size micro --model.image_size 32 --augment.size 32 --model.patch_size 8 --decoder.depth 1 "
    "--optim.batch_size 8"
).split()


@pytest.fixture
def workloads(small_recipes, small_clip_recipes):
    """Masked images, clips with running cells, and DINO on tiles."""
    dino = SLIDES["tiny"]()
    recipes = {"images": small_recipes[0], "clips": small_clip_recipes[0], "tiles": dino}
    return {
        name: workload(replace(recipe, run=replace(recipe.run, precision="32-true")), 1000)
        for name, recipe in recipes.items()
    }


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["images", "clips", "tiles"])
def test_a_dry_run_counts_the_bytes_of_a_real_step(workloads, kind, recompute):
    work = workloads[kind]
    dry = footprint(work, 4, recompute, fused=True, accumulate=False)
    training, batch = work.training(recompute), work.batch(4)
    training.begin(batch, 0)
    optimizer = training.configure_optimizers()["optimizer"]
    with LiveBytes([*training.parameters(), *training.buffers()]) as live:
        batch = {name: tensor.clone() for name, tensor in batch.items()}
        before = live.now
        loss = work.loss(training, batch)
        activations = live.now - before
        loss.backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert dry.gradients == bytes_of(p.grad for p in training.model.parameters())
    assert dry.states == bytes_of(states)
    assert dry.weights + dry.copies == bytes_of(training.state_dict().values())
    assert dry.activations == pytest.approx(activations, rel=0.02)
    assert dry.peak - dry.weights - dry.copies - dry.states == pytest.approx(live.peak, rel=0.02)


def test_checkpointing_saves_memory_and_costs_a_forward_pass(workloads):
    plain, saving = (footprint(workloads["images"], 64, again, fused=True, accumulate=False) for again in (False, True))
    assert saving.activations < plain.activations / 3 and saving.peak < plain.peak
    once, twice = (flops_per_case(workloads["images"], again) for again in (False, True))
    assert 1.2 < twice / once < 4 / 3


def test_flops_are_those_of_the_products(workloads):
    """Images of 16 patches, 4 of them seen: the tokens through the blocks, by hand."""
    width, depth, tokens, mlp = 128, 4, 1 + 4, 4
    encoder = depth * tokens * (4 + 2 * mlp) * width**2 + depth * 2 * tokens**2 * width + 4 * 64 * width
    width, depth, tokens = 32, 1, 1 + 16
    decoder = depth * tokens * (4 + 2 * mlp) * width**2 + depth * 2 * tokens**2 * width
    decoder += 5 * 128 * width + 12 * width * 64
    # A backward pass is twice a forward pass, but for the pixels, and attention's makes its matrix anew.
    assert flops_per_case(workloads["images"], False) == pytest.approx(6 * (encoder + decoder), rel=0.03)


def test_largest_that_fits():
    sizes = [1, 2, 4, 8, 16]
    assert [largest(sizes, lambda size, most=most: size <= most) for most in (0, 1, 5, 8, 99)] == [0, 1, 4, 8, 16]


def test_out_of_memory_halves_the_cases(workloads, monkeypatch):
    """As on a GPU; here the loss says that memory ran out."""
    work, tried = workloads["images"], []
    loss = type(work).loss

    def full(self, training, batch):
        tried.append(len(batch["row"]))
        if tried[-1] > 4:
            raise torch.OutOfMemoryError
        return loss(self, training, batch)

    monkeypatch.setattr(type(work), "loss", full)
    monkeypatch.setattr(module, "REPEATS", 1)
    assert timed(work, 16, torch.device("cpu")).cases == 4
    assert tried == [1, 2, 4, 8, 4, 4]


def estimated(capsys, *arguments, verb: str = "pretrain") -> str:
    assert main([verb, *arguments, "--estimate", "--run.precision", "32-true"]) == 0
    return capsys.readouterr().out


def test_the_command_tells_the_parts_that_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = estimated(capsys, "thorax", "--cases", "1000", *SMALL, "--optim.epochs", "10", "--optim.warmup_epochs", "1")
    assert "10 epochs of 125 steps of 8 cases" in text and "core-hours" in text
    assert "At most 8 cases at once fit: --optim.accumulate 1 keeps the batch of 8." in text
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    a_mib_a_case(monkeypatch, 5)
    text = estimated(capsys, "thorax", "--cases", "1000", *SMALL)
    assert "At most 4 cases at once fit: --optim.accumulate 2 keeps the batch of 8." in text


def a_mib_a_case(monkeypatch, free_mib: float) -> None:
    """A machine with little memory that can be used, and steps of which each case takes one MiB."""
    free = int(free_mib / module.USABLE * 2**20)
    monkeypatch.setattr(module, "free_memory", lambda device: (free, "a small machine"))
    monkeypatch.setattr(module, "footprint", lambda work, cases, *_, **__: Footprint(0, 0, 0, 0, 0, cases << 20))


def test_the_cases_of_a_manifest_are_counted(cohort, capsys):
    assert "48 cases per epoch" in estimated(capsys, "thorax", "--data", str(cohort()), *SMALL)


def test_fine_tuning_too(cohort, capsys):
    small = [option for option in SMALL if "decoder" not in option and option != "1"]
    text = estimated(capsys, "thorax", "--data", str(cohort()), *small, "--mixup", "0.5", "--patch_drop", "0",
                     verb="finetune")  # fmt: skip
    assert "ViT micro, 32 px, 48 cases per epoch" in text and "6 steps of 8 cases" in text
    masked = estimated(capsys, "thorax", "--cases", "48", *small, "--patch_drop", "0.5", verb="finetune")
    counts = [float(line.split()[3]) for line in (text + masked).splitlines() if line.startswith("FLOPs per case")]
    assert counts[1] < 0.7 * counts[0]
    assert main(["finetune", "thorax", "--estimate", "--cases", "9", "--mode", "knn", *small]) == 2
    assert main(["finetune", "slides", "--estimate", "--cases", "9"]) == 2
    assert "not for bags of slides" in capsys.readouterr().err


def test_what_cannot_be_estimated_says_why(capsys, monkeypatch):
    assert main(["pretrain", "thorax", "--estimate"]) == 2
    assert "--data MANIFEST, or --cases N" in capsys.readouterr().err
    assert main(["pretrain", "thorax", "--estimate", "--cases", "3"]) == 2
    assert "larger than the 3 training cases" in capsys.readouterr().err
    a_mib_a_case(monkeypatch, 0.5)
    assert main(["pretrain", "thorax", "--estimate", "--cases", "100", *SMALL]) == 2
    assert "one case takes" in capsys.readouterr().err
    recipe = SLIDES["tiny"]()
    work = workload(replace(recipe, run=replace(recipe.run, devices="3")), 1000)
    with pytest.raises(UserError, match="does not divide over 3 processes"):
        module.estimate(work, "")
