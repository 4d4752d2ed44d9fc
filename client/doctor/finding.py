"""What a check has found: one line for people, one object for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`SKIPPED`: could not be looked at, because of another finding or since it does not apply."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`cause`: a word that tells kinds of trouble apart ("closed", "filtered", "nat", "clock" ...), "" if all is well."""

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Verdict.OK, seen)


def warn(check: str, cause: str, seen: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARN, seen, advice, cause)


def fail(check: str, cause: str, seen: str, advice: str) -> Finding:
    return Finding(check, Verdict.FAIL, seen, advice, cause)


def skipped(check: str, why: str) -> Finding:
    return Finding(check, Verdict.SKIPPED, why)


def failed(findings: Iterable[Finding]) -> bool:
    return any(one.verdict is Verdict.FAIL for one in findings)
