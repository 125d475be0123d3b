"""From an effect and its interval to a verdict: supported, refuted or undecided, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kanmlip.report.claims import Claim, Part
from kanmlip.report.effect import Effect, Sources
from kanmlip.report.effects import measure, paper_effect
from kanmlip.report.wording import counted

Word = Literal["supported", "refuted", "undecided"]
# The fewest that can reject at 5 % by signs alone; a benchmark's rounds count like seeds.
FEWEST_SEEDS = 6


@dataclass(frozen=True)
class Finding:
    """One part of a claim, tested. ``reason`` says why it is undecided, and is empty otherwise."""

    part: Part
    effect: Effect
    paper: float | None
    word: Word
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A claim with its parts."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def word(self) -> Word:
        """Supported if every part that counts is, refuted if one is, else undecided."""
        words = {finding.word for finding in self.findings if finding.part.counts}
        return "refuted" if "refuted" in words else "supported" if words == {"supported"} else "undecided"


def judge(claims: Sequence[Claim], sources: Sources) -> tuple[Verdict, ...]:
    """Test every claim on the records of one budget."""
    verdicts = []
    for claim in claims:
        findings = []
        for part in claim.parts:
            effect, paper = measure(part, sources), paper_effect(part, sources.study)
            word, reason = decide(part, effect, paper, sources.budget)
            findings.append(Finding(part, effect, paper, word, reason))
        verdicts.append(Verdict(claim, tuple(findings)))
    return tuple(verdicts)


def decide(part: Part, effect: Effect, paper: float | None, budget: str) -> tuple[Word, str]:
    """The verdict of one part and, where it is undecided, the reason."""
    if effect.obstacles:
        return "undecided", "; ".join(effect.obstacles)
    if budget == "smoke":
        return "undecided", "runs of budget smoke only show that everything works"
    if effect.seeds and min(effect.seeds) < FEWEST_SEEDS:
        return "undecided", f"{counted(min(effect.seeds), 'seed' if effect.structures else 'round')}; a verdict needs {FEWEST_SEEDS}"
    if effect.interval is None:
        return "undecided", "no interval"
    low, high = effect.interval
    if part.direction == "about":
        if paper is None:
            return "undecided", "the paper prints nothing to compare with"
        least, most = paper * (1 - part.tolerance), paper * (1 + part.tolerance)
        holds, fails = least <= low and high <= most, high < least or most < low
    else:
        below, above = high < part.limit, low > part.limit
        holds, fails = (below, above) if part.direction == "lower" else (above, below)
    return ("supported", "") if holds else ("refuted", "") if fails else ("undecided", "the interval allows both")
