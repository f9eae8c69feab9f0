"""The hospitals of `three_hospitals.py` train in rounds: Flower carries the weights and averages them (FedAvg).

    pip install 'flwr[simulation]'
    python examples/flower_rounds.py [--patients 120] [--rounds 4] [--epochs 5]

Flower's simulation runs every hospital as a client in a process of its own on this machine. The table at the end holds
the model of all rounds, and that merged once, against each hospital's own model, which trained for as many epochs.
"""

import argparse
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

if find_spec("flwr") is None or find_spec("ray") is None:  # said before what takes seconds to import
    raise SystemExit("this example needs Flower and its simulation: pip install 'flwr[simulation]'")

import clinvit
import pandas as pd
from clinvit.core.files import write_text
from clinvit.eval import compare
from clinvit.finetune import finetune
from clinvit.pretrain import pretrain
from clinvit.tasks.thorax import recipes
from lightning import Callback
from three_hospitals import FINDINGS, HOSPITALS, hospital, run, scores, small

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # neither reports home
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


class Start(Callback):
    """Start training from the weights that the server sent, head included."""

    def __init__(self, state):
        self.state = state

    def on_fit_start(self, trainer, module):
        module.model.load_state_dict(self.state)


def tuned(epochs: int):
    recipe = small(recipes.finetune_tiny(), epochs)
    return replace(recipe, data=replace(recipe.data, labels=FINDINGS))


def client(root: Path, epochs: int) -> ClientApp:
    """Return what a hospital does in a round: some epochs at home; weights and a count go back."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        site = list(HOSPITALS)[context.node_config["partition-id"]]
        number = message.content["config"]["server-round"]
        data, out = root / f"hospitals/{site}.csv", root / f"rounds/{site}-{number}"
        start = Start(message.content["arrays"].to_torch_state_dict())
        model = finetune(tuned(epochs), data=data, out=out, encoder=root / "base/encoder", callbacks=[start])
        images = int((pd.read_csv(data)["split"] == "train").sum())
        back = {"arrays": ArrayRecord(model.network.state_dict()), "metrics": MetricRecord({"num-examples": images})}
        return Message(RecordDict(back), reply_to=message)

    return app


def in_rounds(network, rounds: int, epochs: int) -> None:
    """Train a network in rounds of all hospitals."""
    server = ServerApp()

    @server.main()
    def main(grid, context):
        everybody = {"min_train_nodes": len(HOSPITALS), "min_available_nodes": len(HOSPITALS)}
        strategy = FedAvg(fraction_evaluate=0.0, **everybody)
        found = strategy.start(grid, initial_arrays=ArrayRecord(network.state_dict()), num_rounds=rounds)
        network.load_state_dict(found.arrays.to_torch_state_dict())

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, client(Path.cwd(), epochs), len(HOSPITALS), backend_config=resources)


def untrained(model, base):
    """Give a classifier's network the common start's encoder and a head that knows nothing."""
    model.network.encoder.load_state_dict(base.vit.state_dict(), strict=False)  # without its last norm
    for part in (model.network.fc_norm, model.network.head):
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5, help="of each hospital in each round")
    asked = parser.parse_args()
    for seed, name in enumerate(HOSPITALS, 1):
        write_text(f"hospitals/{name}.csv", hospital(name, asked.patients, seed).to_csv(index=False))
    whole = asked.rounds * asked.epochs
    base = pretrain(small(recipes.pretrain_tiny(), whole), data="hospitals/north.csv", out="base")
    for name in HOSPITALS:
        finetune(tuned(whole), data=f"hospitals/{name}.csv", out=name, encoder=base)
    run("merge", "base=base/encoder", *(f"{name}={name}/model" for name in HOSPITALS), "--out", "merged")
    model = untrained(clinvit.load("north"), clinvit.load("base/encoder"))
    in_rounds(model.network, asked.rounds, asked.epochs)
    lines = []
    for name in HOSPITALS:
        cases = Path(f"hospitals/{name}.csv")
        own = scores(name, cases, Path(f"hospitals/{name}-own.csv"))
        merged = scores("merged", cases, Path(f"hospitals/{name}-merged.csv"))
        rounds = Path(f"hospitals/{name}-rounds.csv")
        write_text(rounds, model.predict(cases).to_csv(index=False))
        for other, file in {"rounds": rounds, "merged": merged}.items():
            table = compare(file, own).table()[["auroc", "auroc_low", "auroc_high"]]
            lines.append(
                table.assign(hospital=name, difference=f"{other} minus own").set_index("hospital", append=True)
            )
    table = pd.concat(lines)
    print(table.to_string(float_format="{:+.3f}".format))
    write_text("flower_rounds.csv", table.to_csv())
