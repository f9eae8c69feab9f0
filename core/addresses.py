"""What of an fsspec URL may be seen by others: no password, no token, no signature, in any link of its chain."""

import re
from urllib.parse import urlsplit

from .errors import UserError

# Who is named before `@`: of these protocols a name that is no secret (an account's container, a project).
_NAMED = {"abfs", "abfss", "adl", "az", "hdfs", "sftp", "ssh", "ftp", "smb", "github", "webhdfs"}
_SECRET = re.compile(
    r"(sig(nature)?|token|secret|password|passwd|pwd|key|credential|auth|x-amz-[\w-]+|x-goog-[\w-]+|sas|se|sp|sv)\s*=",
    re.IGNORECASE,
)


def refuse_secrets(url: str) -> None:
    """Refuse a URL with a password, a token or a signature in it: it is stored and logged.

    Args:
        url: As fsspec reads it: links of a chain between `::`, each with a protocol, a place, and what follows.

    Raises:
        UserError: The message repeats nothing of the URL but the protocols.
    """
    links = [urlsplit(link) for link in url.split("::")]
    for link, parts in zip(url.split("::"), links):
        who = parts.netloc.rpartition("@")[0]
        secret = (":" in who and parts.scheme != "github") or (who and parts.scheme not in _NAMED)
        if secret or parts.query or parts.fragment or ";" in link or _SECRET.search(link):
            schemes = "::".join(f"{each.scheme}://..." if each.scheme else "..." for each in links)
            raise UserError(
                f"{schemes}: no passwords, tokens or signatures in a URL, it is logged. Put them where the package "
                "for it looks: the environment, or its own configuration."
            )


def without_secrets(text: str) -> str:
    """Return a library's words on one line, without what may be a secret in the URLs that they quote."""
    text = re.sub(r"(\w+://)[^/\s]*@", r"\1", " ".join(text.split()))
    text = re.sub(r"((?:\w+://|::)[^\s?#;]*)[?#;]\S*", r"\1", text)
    return re.sub(rf"[?&;#]?{_SECRET.pattern}\S*", "", text, flags=re.IGNORECASE)
