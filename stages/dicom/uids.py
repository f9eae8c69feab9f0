"""UIDs of results by one rule, so that a repeated run names what it wrote before.

A UID is `2.25.` and the decimal number of a UUID of version 5 (RFC 9562, B.2 of PS3.5), whose namespace is
`NAMESPACE` and whose name is the JSON array [what, kind, fingerprint of the model, SOP Instance UIDs of the sources in
their order, further words]. Another model, threshold or calibration gives other UIDs, and so does a failed case: its
report must never be taken for that of a later run that went well, or the other way round.
"""

import json
import uuid
from collections.abc import Sequence

NAMESPACE = uuid.UUID("6f0b6f0e-7d0c-5d1f-9a55-2f8f2ab6b6d1")


def result_uid(what: str, kind: str, fingerprint: str, sources: Sequence[str], *words: str) -> str:
    """Return the UID of a part of a result.

    Args:
        what: `instance`, `series`, or a part of an instance that has a UID of its own.
        kind: Of the result, such as `sr`; of a failed case `sr failed`.
        fingerprint: Of the model.
        sources: SOP Instance UIDs.
        words: What else tells it from others, such as a label.
    """
    name = json.dumps([what, kind, fingerprint, list(sources), *words], ensure_ascii=True)
    return f"2.25.{uuid.uuid5(NAMESPACE, name).int}"
