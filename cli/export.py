"""`clinvit export`: a model or an encoder for other libraries."""

from pathlib import Path
from typing import Any

from .parser import Parser

SUMMARY = "a model or an encoder for timm, Hugging Face, ONNX or torch.export; a model card; the hub"


def add_arguments(parser: Parser, task: Any) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model or encoder folder; it is only read")
    parser.add_argument(
        "--to", choices=["timm", "huggingface", "onnx", "torch", "card", "hub"],
        help="whom it is for; `card` writes a README.md of the folder's own facts; `hub` uploads to huggingface.co",
    )  # fmt: skip
    parser.add_argument(
        "--merge", action="store_true",
        help="merge idle units (finetune --idle); without --to a smaller folder of ours. onnx and torch always do so",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument(
        "--repo", metavar="OWNER/NAME",
        help="with --to hub: where to; the token is read from HF_TOKEN, and a repository that is made is private",
    )  # fmt: skip
    parser.add_argument(
        "--public", action="store_true", help="with --to hub: a repository that is made is for everybody"
    )
    parser.add_argument("--int8", action="store_true", help="onnx: also a graph with int8 weights, for CPUs")
    parser.add_argument("--data", type=Path, help="with --int8: manifest; what int8 loses on its validation cases")
    parser.add_argument(
        "--scheme", choices=["dynamic", "static", "weights8", "weights4"], default="dynamic",
        help="with --int8: ranges of activations found for each input; chosen on 32 training cases of --data; or "
        "weights alone in 8 or 4 bits (default: dynamic)",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float, metavar="LOSS",
        help="with --scheme static: the most sensitive layers stay float32 until the 95 %% interval of every finding's "
        "AUROC loss on validation ends below this, such as 0.01",
    )  # fmt: skip
    parser.add_argument(
        "--sensitivity", choices=["measured", "relevance"], default="measured", advanced=True,
        help="how --scheme static orders layers: by what the logits lose, or by relevance (LRP) (default: measured)",
    )  # fmt: skip
    parser.add_argument(
        "--log-attention", action="store_true", advanced=True,
        help="with --scheme static: attention weights as powers of the square root of 2, to see what they cost; slower",
    )  # fmt: skip


def run(options) -> None:
    """Export, and print what was written."""
    from ..core.errors import UserError
    from ..stages.export import export_stage

    if not options.int8 and (options.scheme != "dynamic" or options.margin is not None or options.log_attention):
        raise UserError("--scheme, --margin and --log-attention belong to --int8.")
    scheme = None
    if options.int8:
        from ..stages.quantised import Scheme

        scheme = Scheme(options.scheme, options.margin, options.sensitivity, options.log_attention)
    if (options.to == "hub") != (options.repo is not None) or (options.public and options.to != "hub"):
        raise UserError("--to hub and --repo OWNER/NAME belong together; --public to both.")
    if options.to == "hub":
        if options.int8 or options.merge or options.out is not None or options.data is not None:
            raise UserError("--to hub uploads the folder as it is: leave --out, --merge, --int8 and --data out.")
        from ..stages.export import open_folder
        from ..stages.hub import push_to_hub

        card = open_folder(options.folder)[1]
        print(*push_to_hub(options.folder, card, options.repo, private=not options.public), sep="\n")
        return
    if options.out is None:
        raise UserError("--out FOLDER is missing: the folder to write.")
    said = export_stage(
        options.folder, options.to, options.out, int8=options.int8, data=options.data, merge=options.merge,
        scheme=scheme,
    )  # fmt: skip
    print(*said, sep="\n")
