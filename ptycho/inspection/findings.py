"""What a check finds: one line each, how bad it is, and what mends it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ptycho.workflow.damage import is_of, read_json
from ptycho.workflow.files import ContractError, StrPath

Topic = Literal["file", "counts", "pixels", "positions", "probe", "orientation", "support"]
"""What a finding is about; "file": that it cannot be read. `source.accept` of a study's config lists the others."""
TOPICS: tuple[Topic, ...] = ("counts", "pixels", "positions", "probe", "orientation", "support")
"""All topics of a scan that can be read, in the order in which they are shown."""
Level = Literal["fine", "note", "warning", "error"]
"""How bad a finding is: an error would ruin a study."""
LEVELS: tuple[Level, ...] = ("fine", "note", "warning", "error")
"""All levels, from good to bad."""
STATUSES = (0, 1, 2)
"""Exit statuses of a check, see `Verdict`."""


@dataclass(frozen=True)
class Finding:
    """One line of a check."""

    topic: Topic
    level: Level
    text: str
    """What was found, with its numbers."""
    remedy: str = ""
    """What mends it: options of `ptycho convert`, or a change of the study."""

    @property
    def line(self) -> str:
        """The finding and its remedy in one line."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def worst(findings: Iterable[Finding], topic: Topic | None = None) -> Level:
    """Return the worst level of all findings, or of those of one topic; "fine" if there are none."""
    levels = [finding.level for finding in findings if topic in (None, finding.topic)]
    return max(levels, key=LEVELS.index, default="fine")


def named(exposures: Iterable[int], most: int = 12) -> str:
    """List exposures with ranges, "3, 100-113"; the first ones of many."""
    numbers, parts = sorted(int(number) for number in exposures), []
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            first, last = numbers[start], numbers[index - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = index
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def named_option(exposures: Iterable[int]) -> str:
    """List all exposures as `--leave-out` takes them, "3,100-113"."""
    numbers = list(exposures)
    return named(numbers, most=len(numbers)).replace(" ", "")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All findings of a check, and its exit status."""

    source: str
    """File that was checked."""
    status: int
    """One of `STATUSES`; 0: nothing would ruin a study; 1: something would; 2: the file could not be read."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, source: str, findings: Iterable[Finding]) -> "Verdict":
        """Return the verdict on a scan that could be read."""
        findings = tuple(sorted(findings, key=lambda finding: TOPICS.index(finding.topic)))
        return cls(source=source, status=int(worst(findings) == "error"), findings=findings)

    @classmethod
    def load(cls, path: StrPath) -> "Verdict":
        """Read a verdict from the JSON that a check has written.

        Raises
        ------
        ptycho.workflow.files.ContractError
            If it is no verdict.
        """
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-serializable values."""
        return {"source": self.source, "status": self.status, "findings": [asdict(part) for part in self.findings]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Verdict":
        """Return what `as_dict` was made of.

        Raises
        ------
        ptycho.workflow.files.ContractError
            If it is no verdict.
        """
        try:
            findings = tuple(Finding(**part) for part in values["findings"])
            if not is_of(status := values["status"], int) or status not in STATUSES:
                raise ValueError(f"'status' is {status!r}; wanted one of {STATUSES}")
            return cls(source=values["source"], status=status, findings=findings)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"not the verdict of a check: {error}") from None
