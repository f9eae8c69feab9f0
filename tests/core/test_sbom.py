"""The bill of materials names what is installed, each thing once, and hangs together."""

import json
from importlib.metadata import version

from clinvit.cli import main


def test_the_bill_of_materials(tmp_path, capsys):
    assert main(["sbom", "--out", str(tmp_path / "bom.json")]) == 0
    bom = json.loads((tmp_path / "bom.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert bom["metadata"]["component"]["name"] == "clinvit"
    parts = {part["name"].lower(): part for part in bom["components"]}
    for name in ("torch", "pydicom", "pillow", "h5py", "safetensors", "PyYAML"):
        assert parts[name.lower()]["version"] == version(name)
        assert parts[name.lower()]["purl"] == f"pkg:pypi/{name.lower()}@{version(name)}"
        assert parts[name.lower()]["licenses"]
    assert "openslide-python" in parts and "cryptography" in parts  # optional parts, where they are there
    assert "pytest" not in parts and "clinvit" not in parts
    references = [bom["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in bom["components"])]
    assert len(set(references)) == len(references)
    assert [entry["ref"] for entry in bom["dependencies"]] == references
    for entry in bom["dependencies"]:
        assert set(entry["dependsOn"]) <= set(references)
    assert f"{len(parts)} packages" in capsys.readouterr().out
