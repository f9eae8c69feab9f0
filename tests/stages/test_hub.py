"""`export --to hub`: what reaches a hub, asked by its real client, and what comes back from there."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from clinvit import load
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import RunError, UserError
from clinvit.finetune.model import load_model
from clinvit.stages.hub import push_to_hub
from PIL import Image

REPO = "ward-7/chest"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as an upload asks for; `files` is what was committed."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        answer = {
            "create": lambda: {"url": f"https://huggingface.co/{REPO}"},
            "validate-yaml": lambda: {"errors": [], "warnings": []},
            "main": lambda: self._of_main(body),
        }[self.path.rsplit("/", 1)[1]]()
        content = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _of_main(self, body):
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"https://huggingface.co/{REPO}/commit/1", "commitOid": "1" * 40}

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files, server.status = [], {}, 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def client(hub):
    return huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{hub.server_port}", token="hf_secret")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub; `fill(files)` is what `weights fetch` leaves there."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def fill(files):
        home = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}"
        (home / "snapshots" / ("1" * 40)).mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs/main").write_text("1" * 40)
        for name, content in files.items():
            (home / "snapshots" / ("1" * 40) / name).write_bytes(content)

    return fill


def test_a_model_comes_back_from_the_hub_as_it_was(random_model, hub, cache, tmp_path, monkeypatch):
    model = random_model(thresholds={"Square": {"value": 0.5, "how": "youden", "split": "val"}})
    (model / "trained_on.txt").write_text("0" * 64 + "\n")
    (model / "p.key.json").write_text('{"3f": "MEIER_ANNA.dcm"}')  # where somebody let `predict` write into the folder
    said = "\n".join(push_to_hub(model, load_model(model)[1], REPO, api=client(hub)))
    private = {"trained_on.txt", "p.key.json"}
    assert set(hub.files) == {"README.md", *(path.name for path in model.iterdir())} - private
    assert "kept here: p.key.json, trained_on.txt" in said and "secret" not in said
    assert {word for _, word in hub.asked} == {"Bearer hf_secret"}
    head = yaml.safe_load(hub.files["README.md"].decode().split("---")[1])
    assert head["library_name"] == "clinvit" and head["pipeline_tag"] == "image-classification"

    cache(hub.files)
    Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40)).save(tmp_path / "case.png")
    monkeypatch.chdir(tmp_path)
    here, there = (load(where).predict(["case.png"]) for where in (model, f"hf-hub:{REPO}"))
    assert here["p_Square"].tolist() == there["p_Square"].tolist()
    usage = re.search("```python\n(.*?)```", hub.files["README.md"].decode(), re.S)[1]
    exec(compile(usage, "README.md", "exec"), {})


def test_an_encoder_comes_back_from_the_hub_as_it_was(hub, cache, tmp_path):
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    card = EncoderCard(arch, (0.5,), (0.25,), method="mae")
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), card)
    push_to_hub(encoder, card, REPO, api=client(hub))
    assert "image-feature-extraction" in hub.files["README.md"].decode()
    cache(hub.files)
    image = torch.rand(1, 32, 32).numpy()
    here, there = (load(where).features([image]).values for where in (encoder, f"hf-hub:{REPO}"))
    np.testing.assert_array_equal(here, there)


def test_what_the_hub_refuses_is_one_line(random_model, hub, tmp_path):
    model = random_model(thresholds={})
    hub.status = 403
    with pytest.raises(RunError, match=f"{REPO}: the hub did not take it"):
        push_to_hub(model, load_model(model)[1], REPO, api=client(hub))
    assert not hub.files
    with pytest.raises(UserError, match="OWNER/NAME"):
        push_to_hub(model, load_model(model)[1], "chest", api=client(hub))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--to", "hub"], "belong together"),
        (["--to", "card", "--repo", REPO], "belong together"),
        (["--to", "card"], "--out FOLDER is missing"),
        (["--to", "hub", "--repo", REPO, "--int8"], "as it is"),
        (["--to", "hub", "--repo", REPO], "HF_TOKEN is not set"),
    ],
)
def test_a_wrong_request_uploads_nothing(random_model, monkeypatch, capsys, words, message):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["export", str(random_model(thresholds={})), *words]) == 2
    assert message in capsys.readouterr().err
