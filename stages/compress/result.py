"""What a compression tried, what it kept, and how that is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...compress.variants import Variant
from .forms import FP32, INT8
from .judge import NOT_JUDGED, PASSED, Judged


@dataclass(frozen=True)
class Try:
    """One form of one network.

    Attributes:
        variant: The network.
        form: `fp32` or `int8`.
        bytes: Of its file.
        rate: Cases a second on one thread.
        parameters: Of the network.
        gain: How many times as small as the model, times how many times as fast.
        judged: On validation; None where it was not tried.
    """

    variant: Variant
    form: str
    bytes: int
    rate: float
    parameters: int
    gain: float
    judged: Judged | None = None

    @property
    def name(self) -> str:
        """Return its name in tables."""
        return f"{self.variant.name} {self.form}"

    @property
    def words(self) -> str:
        """Return its steps."""
        return self.variant.words() + (", in int8" if self.form == INT8 else "")

    @property
    def whole(self) -> bool:
        """Return whether it is the model itself."""
        return not self.variant.learns and self.form == FP32

    @property
    def passed(self) -> bool:
        """Return whether it was tried and is not worse."""
        return self.judged is not None and self.judged.passed

    @property
    def verdict(self) -> str:
        """Return what came of it, in words."""
        if self.whole:
            return "the model itself"
        if self.judged is None:
            return "not tried: a smaller or faster one passed"
        judged = [each for each in self.judged.findings if each.verdict != NOT_JUDGED]
        good = sum(each.verdict == PASSED for each in judged)
        rest = len(self.judged.findings) - len(judged)
        failed = f"; {self.judged.failed} cases failed that the model has scores of" if self.judged.failed else ""
        return f"not worse in {good} of {len(judged)} findings{f', {rest} not judged' if rest else ''}{failed}"


@dataclass(frozen=True)
class Compressed:
    """What came of a compression.

    Attributes:
        tries: In the order of their gain, the model itself last.
        chosen: The first that is not worse.
        confirmed: The chosen one on test cases; None where there are none, and of the model itself.
        rare: Findings that were not judged, with the patients in their smaller class.
        margin: The largest loss of AUROC of a finding that does not matter.
        target: `onnx` or `torch`.
        epochs: Of each training.
        folder: Where it is written.
    """

    tries: tuple[Try, ...]
    chosen: Try
    confirmed: Judged | None
    rare: Mapping[str, int]
    margin: float
    target: str
    epochs: int
    folder: Path

    @property
    def whole(self) -> Try:
        """Return the model itself."""
        return self.tries[-1]

    def sentences(self) -> list[str]:
        """Return what was found: the answer first, then reservations."""
        chosen, whole = self.chosen, self.whole
        if chosen.whole:
            said = [
                f"Of no smaller model a loss below {self.margin:g} was shown: the model stays as it is. More "
                "validation cases narrow the intervals; more --epochs may lose less."
            ]
        else:
            said = [
                f"{_capital(chosen.words)}: {whole.bytes / chosen.bytes:.1f} times as small "
                f"({megabytes(chosen.bytes)} instead of {megabytes(whole.bytes)}) and {chosen.rate / whole.rate:.1f} "
                f"times as fast ({chosen.rate:.1f} cases a second on one thread). No finding that can be judged loses "
                f"{self.margin:g} of AUROC or more, at the upper end of its 95 % interval."
            ]
        if self.rare:
            names = ", ".join(f"{label} ({patients})" for label, patients in self.rare.items())
            said.append(
                f"Not judged, for too few patients with or without them: {names}. They did not pass: what they lose is "
                "not known."
            )
        tried = sum(each.judged is not None and not each.whole for each in self.tries)
        if not chosen.whole:
            cite = ": cite the test cases" if self.confirmed is not None else ""
            said.append(
                f"It is the first that passed of {tried} tried, smallest and fastest first, on validation{cite}."
            )
        if self.confirmed is not None:
            said.append(confirmed_words(self.confirmed, self.margin))
        return said


def confirmed_words(judged: Judged, margin: float) -> str:
    """Return what the test cases say, in a sentence."""
    own = [each for each in judged.findings if each.verdict != NOT_JUDGED]
    good = [each for each in own if each.verdict == PASSED]
    rest = [f"{each.label} ({each.verdict})" for each in own if each.verdict != PASSED]
    if not own:
        return "On test, looked at once, no finding has enough patients to be judged."
    return (
        f"On test, looked at once, a loss below {margin:g} is shown in {len(good)} of {len(own)} findings that can be "
        f"judged{': all but ' + ', '.join(rest) if rest and good else ''}."
    )


def megabytes(size: int) -> str:
    """Return `12.8 MB`."""
    return f"{size / 1e6:.1f} MB"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
