"""A model or encoder folder of ours on the Hugging Face hub: only when asked, and without the lists of its cases."""

import os
import re
from pathlib import Path
from typing import Any

from ..core.errors import RunError, UserError, printable
from ..finetune.out_of_distribution import FILE as LIMIT_FILE
from .model_card import card_text

TOKEN = "HF_TOKEN"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def push_to_hub(folder: Path, card: Any, repo: str, private: bool = True, api: Any = None) -> list[str]:
    """Upload a folder as one commit, with a README.md of its own facts; gives what is worth saying.

    `clinvit.load("hf-hub:OWNER/NAME")` reads it once `clinvit weights fetch hf-hub:OWNER/NAME` has fetched it.

    Args:
        folder: Model or encoder folder.
        card: Of the folder.
        repo: OWNER/NAME; made where it is missing.
        private: Whether a repository that is made is seen by its owners alone.
        api: A `huggingface_hub.HfApi`; None for the hub's, with the token of the environment.

    Raises:
        UserError: No token, or a name that is none.
        RunError: The hub refuses it or is away; nothing half is left there.
    """
    if not _NAME.fullmatch(repo):
        raise UserError(f"--repo {repo!r}: OWNER/NAME, as on the hub.")
    from huggingface_hub import CommitOperationAdd, HfApi

    if api is None:
        if not os.environ.get(TOKEN):
            raise UserError(f"{TOKEN} is not set: a token that may write, from https://huggingface.co/settings/tokens.")
        api = HfApi(token=os.environ[TOKEN], library_name="clinvit")
    wanted = (card.card_file, card.weights_file, LIMIT_FILE)  # nothing else: a key of names may lie there
    files = [folder / name for name in wanted if (folder / name).is_file()]
    words = card_text(folder, card, repo.rsplit("/", 1)[1], f"hf-hub:{repo}")
    new = [CommitOperationAdd(path.name, str(path)) for path in files]
    new.append(CommitOperationAdd("README.md", words.encode()))
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.create_commit(repo, new, commit_message=f"{card.kind} of ClinViT")
    except Exception as error:  # the hub's client raises a dozen kinds
        said = " ".join(str(error).split())[:200]
        raise RunError(f"{repo}: the hub did not take it ({type(error).__name__}: {said}).") from None
    kept = sorted({path.name for path in folder.iterdir()} - {*wanted, "README.md"})
    return [
        f"hub: {done.commit_url}",
        f"uploaded: {', '.join([*(path.name for path in files), 'README.md'])}",
        *[f"kept here: {', '.join(map(printable, kept))}"] * bool(kept),
        f'read back: `clinvit weights fetch hf-hub:{repo}`, then clinvit.load("hf-hub:{repo}")',
    ]
