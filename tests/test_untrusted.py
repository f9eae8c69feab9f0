"""Nothing that comes from a data or weight file is run: by the sources as they stand, and by files that try."""

import ast
import os
import pickle
import re
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import DataError, RunError, UserError, printable
from clinvit.core.files import written_aside

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"tests", "benchmarks", "build", "dist", "runs", ".venv"}
SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in OUTSIDE]
# What runs code, unpacks files to wherever they say, or goes through a shell.
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "tempfile.mktemp",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "dill.loads", "marshal.loads",
    "shelve.open", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "pd.read_pickle",
    "pandas.read_pickle", "tarfile.open",
    "shutil.unpack_archive", "zipfile.ZipFile.extractall", "importlib.util.spec_from_file_location",
}  # fmt: skip
METHODS = {"extractall", "unpack_archive"}
# Readers without limits of size, depth and aliases; `core/documents.py` is the one that has them.
DOCUMENTS = Path("core/documents.py")
READERS = {
    "json.load", "json.loads", "json.JSONDecoder", "pd.read_json", "pandas.read_json", "yaml.parse", "yaml.scan",
    "yaml.compose", "yaml.SafeLoader", "yaml.CSafeLoader", "yaml.load", "yaml.load_all", "yaml.safe_load",
    "yaml.safe_load_all", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
KEYWORDS = {"shell": False, "allow_pickle": False, "trust_remote_code": False, "weights_only": True}
# What makes or changes a file by its name; the one module that may, and what it needs of the system.
WRITING = {Path("core/files.py"), Path("core/platform.py")}
WRITERS = {
    "os.truncate", "os.symlink", "os.link", "os.mkfifo", "os.umask", "shutil.copy", "shutil.copy2",
    "shutil.copyfile", "shutil.copytree", "shutil.move", "torch.save", "np.save", "np.savez", "np.savez_compressed",
    "np.savetxt", "safetensors.torch.save_file", "save_file", "json.dump", "pickle.dump", "yaml.dump",
    "tempfile.NamedTemporaryFile",
}  # fmt: skip
WRITING_METHODS = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "tofile"}


def wrong_calls(tree: ast.AST, path: Path) -> list[str]:
    """What a source calls that it must not, and what it imports to call it by another name."""
    found = renamed(tree, path)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {each.arg: each.value for each in node.keywords}
        wrong = called in FORBIDDEN or called.rpartition(".")[2] in METHODS
        wrong |= called in READERS and path != DOCUMENTS and not is_copy(node)
        wrong |= path not in WRITING and writes(node)
        wrong |= called == "torch.load" and "weights_only" not in given
        for keyword, only in KEYWORDS.items():
            value = given.get(keyword)
            wrong |= value is not None and not (isinstance(value, ast.Constant) and value.value is only)
        if called in ("subprocess.run", "subprocess.Popen"):
            wrong |= not isinstance(node.args[0], (ast.List, ast.Name))
        if wrong:
            found.append(f"{path}:{node.lineno}: {ast.unparse(node)[:100]}")
    return found


def writes(node: ast.Call) -> bool:
    """Whether a call opens a file for writing by a name that is not the one of `written_aside`, `aside`."""
    called = ast.unparse(node.func)
    if ast.unparse(node.func).split(".")[0] == "aside" or any("aside" in ast.unparse(each) for each in node.args[:2]):
        return False
    if called == "os.open":
        return re.search("O_(WRONLY|RDWR|CREAT)", ast.unparse(node)) is not None and "os.devnull" not in ast.unparse(
            node
        )
    method = called.rpartition(".")[2] if isinstance(node.func, ast.Attribute) else ""
    if called in WRITERS or method in WRITING_METHODS:
        return True
    if method in ("to_csv", "to_json", "to_parquet", "to_excel"):
        return bool(node.args)
    if called == "open" or method in ("open", "fdopen", "File", "ZipFile"):
        modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
        modes += [ast.unparse(each.value).strip("'") for each in node.keywords if each.arg == "mode"]
        return any(
            isinstance(mode, str) and re.fullmatch(r"(?=.*[wax+])[rwaxbt+]+|[^rwaxbt+]+", mode) for mode in modes
        )
    return False


def is_copy(node: ast.Call) -> bool:
    """Whether a reader reads what was just written: `json.loads(json.dumps(value))` makes plain values."""
    return isinstance(node.args[0], ast.Call) and ast.unparse(node.args[0].func) == "json.dumps"


def renamed(tree: ast.AST, path: Path) -> list[str]:
    """Imports by which a forbidden function would have another name: `from json import loads`, `import yaml as y`."""
    forbidden = FORBIDDEN | READERS | {"torch.load"}
    modules = {name.rpartition(".")[0] for name in forbidden} - {"", "pd", "pandas"}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [f"{each.name}." for each in node.names if each.name in modules and each.asname]
        if wrong := [name for name in names if name in forbidden or name.endswith((".", "*"))]:
            found.append(f"{path}:{node.lineno}: {wrong[0]} under another name")
    return found


def test_no_source_calls_what_runs_code_or_reads_without_limits():
    assert len(SOURCES) > 150
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in SOURCES}
    assert [line for path, tree in trees.items() for line in wrong_calls(tree, path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text, Loader)",
        "np.load(path, allow_pickle=True)", "subprocess.run('ls', shell=True)", "archive.extractall(folder)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)", "subprocess.run(f'git {name}')",
        "json.load(file)", "json.loads(path.read_text())", "yaml.safe_load(text)", "yaml.load(text, yaml.SafeLoader)",
        "from json import loads", "import yaml as y",
        "open(path, 'a')", "open(path, mode='w')", "path.open('w')", "path.open('r+b')", "path.write_text(text)",
        "path.touch()", "os.open(path, os.O_WRONLY)", "table.to_csv(path)", "torch.save(state, path)",
        "h5py.File(path, 'w')", "zipfile.ZipFile(path, 'a')", "np.savez(path, x=1)", "os.umask(0)",
        "from yaml import *", "from torch import load",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(line):
    assert wrong_calls(ast.parse(line), Path("x.py"))


def test_no_source_unpacks_an_archive():
    """Archives are written and checked, so that no member can leave a folder."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("extractall", "unpack_archive"), path


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def encoder(tmp_path):
    arch = Architecture(16, 1, 2, image_size=(32, 32), patch_size=8)
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    return tmp_path / "encoder"


def refused(capsys, *arguments) -> str:
    """A command that ends in one line; gives it."""
    assert main([str(each) for each in arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("clinvit: error: ")]
    assert len(errors) == 1 and "error: unexpected" not in errors[0] and "Traceback" not in "".join(said), said
    return errors[0]


@pytest.mark.parametrize(
    "how, suffix",
    [
        ("torch", ".pth"), ("legacy", ".pth"), ("bare pickle", ".pth"), ("torch", ".pt"), ("torch", ".ckpt"),
        ("legacy", ".bin"), ("numpy", ".npz"), ("bare pickle", ".npz"), ("bare pickle", ".safetensors"),
    ],
)  # fmt: skip
def test_every_verb_that_takes_weights_refuses_a_pickle_with_code(tmp_path, capsys, cohort, how, suffix):
    mark, file, manifest = tmp_path / "payload-was-here", tmp_path / f"evil{suffix}", cohort(patients=5)
    content = {"model": {"patch_embed.proj.weight": torch.zeros(16, 3, 8, 8)}, "epoch": Payload(mark)}
    if how == "numpy":
        with file.open("wb") as out:
            np.savez(out, features=np.array([Payload(mark)], dtype=object))
    elif how == "bare pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    small = ["--model.size", "micro", "--model.image_size", 32, "--augment.size", 32, "--optim.warmup_epochs", 0]
    for command in (
        ["weights", "inspect", file],
        ["weights", "convert", file, "--out", tmp_path / "out"],
        ["finetune", "thorax", "--data", manifest, "--encoder", file, "--out", tmp_path / "run", *small],
        ["predict", "thorax", manifest, "--model", file, "--out", tmp_path / "p.csv"],
        [
            "extract",
            "slides",
            "--data",
            manifest,
            "--tiles",
            tmp_path,
            "--encoder",
            file,
            "--out",
            tmp_path / "features",
        ],
        ["export", file, "--to", "card", "--out", tmp_path / "card"],
    ):
        assert str(file) in refused(capsys, *command), command
    assert not mark.exists()


def test_features_that_are_a_pickle_are_refused(tmp_path, capsys, cohort):
    """Whatever they are called: CLAM keeps features as `.pt` beside the `.h5` that are read."""
    mark, manifest = tmp_path / "payload-was-here", cohort(patients=5)
    ids = pd.read_csv(manifest, dtype=str)["id"]
    (tmp_path / "features").mkdir()
    for name in ids:
        torch.save(Payload(mark), tmp_path / "features" / f"{name}.pt")
        (tmp_path / "features" / f"{name}.h5").write_bytes(pickle.dumps(Payload(mark)))
    command = ["finetune", "slides", "--recipe", "tiny", "--data", manifest, "--out", tmp_path / "run"]
    said = refused(capsys, *command, "--features", tmp_path / "features")
    assert f"{ids[0]}.h5" in said and "none of the" in said
    assert not mark.exists()


@pytest.mark.parametrize("name", ["encoder.safetensors", "model.safetensors"])
def test_folders_whose_weights_are_a_pickle_are_refused(tmp_path, capsys, cohort, encoder, name):
    mark, manifest = tmp_path / "payload-was-here", cohort(patients=5)
    (encoder / name).write_bytes(pickle.dumps(Payload(mark)))
    if name == "encoder.safetensors":
        refused(capsys, "weights", "inspect", encoder)
        refused(capsys, "export", encoder, "--to", "timm", "--out", tmp_path / "out")
    else:
        (encoder / "model.json").write_text((encoder / "encoder.json").read_text())
        refused(capsys, "predict", "thorax", manifest, "--model", encoder, "--out", tmp_path / "p.csv")
    assert not mark.exists()


def test_a_checkpoint_of_a_run_with_code_in_it_is_refused(tmp_path, capsys, cohort):
    mark, out = tmp_path / "payload-was-here", tmp_path / "run"
    manifest = cohort(patients=20)
    command = [
        "pretrain",
        "thorax",
        "--data",
        manifest,
        "--out",
        out,
        "--model.size",
        "micro",
        "--model.image_size",
        32,
    ]
    command += ["--augment.size", 32, "--model.patch_size", 8, "--optim.epochs", 1, "--optim.warmup_epochs", 0]
    command += ["--optim.batch_size", 8]
    (out / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {}, "loops": Payload(mark)}, out / "checkpoints" / "last.ckpt")
    assert "asks to run" in refused(capsys, *command)
    assert not mark.exists()


def tags(mark: Path) -> str:
    return f'optim: !!python/object/apply:os.mkdir ["{mark}"]\n'


def test_yaml_that_makes_objects_is_refused(tmp_path, capsys, cohort):
    mark, manifest, config = tmp_path / "payload-was-here", cohort(patients=5), tmp_path / "evil.yaml"
    config.write_text(tags(mark))
    for verb in ("pretrain", "finetune"):
        place = ["--data", manifest, "--out", tmp_path / verb]
        assert str(config) in refused(capsys, verb, "thorax", *place, "--config", config)
        (tmp_path / verb).mkdir(exist_ok=True)
        (tmp_path / verb / "recipe.yaml").write_text(tags(mark))
        (tmp_path / verb / "environment.json").write_text("{}")
        assert "recipe.yaml" in refused(capsys, verb, "thorax", *place, "--optim.batch_size", 2)
        refused(capsys, verb, "thorax", *place, f"--optim=!!python/object/apply:os.mkdir ['{mark}']")
    option = ["--option", tags(mark).replace(": ", "=", 1)]
    refused(capsys, "prepare", "thorax", manifest, "--out", tmp_path / "m.csv", *option)
    run = tmp_path / "other" / "checkpoints"
    run.mkdir(parents=True)
    (run.parent / "recipe.yaml").write_text(tags(mark))
    torch.save({"state_dict": {"model.patch_embed.proj.weight": torch.zeros(16, 1, 8, 8)}}, run / "last.ckpt")
    refused(capsys, "weights", "inspect", run / "last.ckpt")
    assert not mark.exists()
    yaml.unsafe_load(tags(mark))  # the payload works where it is let in
    assert mark.exists()


def test_files_are_private_until_they_are_whole(tmp_path):
    with written_aside(tmp_path / "secret.csv") as aside:
        assert stat.S_IMODE(aside.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", [UserError, DataError, RunError])
def test_messages_cannot_steer_a_terminal(kind):
    said = str(kind("a\x1b[2J\x1b]0;title\x07b\r\x9b1m \u202egnp.exe\udcff\nnext line\tand é, 肺, 🫁"))
    assert said == r"a\x1b[2J\x1b]0;title\x07b\r\x9b1m \u202egnp.exe\udcff\nnext line" + "\tand é, 肺, 🫁"
    assert pickle.loads(pickle.dumps(kind("x"))).args == ("x",)


def test_what_a_command_prints_cannot_steer_a_terminal(tmp_path, capsys, cohort):
    manifest = cohort(patients=5)
    manifest.write_text(manifest.read_text().replace("Square", "Squ\x1b[31mare").replace("p1,", "p\x1b[2J1,"))
    assert main(["check", "thorax", str(manifest)]) in (0, 2)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and printable("Squ\x1b[31mare") in said.out
    main(["predict", "thorax", "x\x1b[31m.png", "--model", str(tmp_path / "no\x1b[2Jmodel")])
    assert "\x1b" not in capsys.readouterr().err
