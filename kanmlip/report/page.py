"""REPORT.md: the paper's claims with their verdicts, what these rest on, and what was found about the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kanmlip.benchmark.md_record import MDCase
from kanmlip.report.bootstrap import PERCENTILES_FROM
from kanmlip.report.collect import budgets_of
from kanmlip.report.comparisons import control_section, fixed_error_section, learning_section
from kanmlip.report.effect import Sources
from kanmlip.report.findings import findings_section
from kanmlip.report.markdown import pipe_table
from kanmlip.report.notes import FACETS
from kanmlip.report.printed import changed_values
from kanmlip.report.records import Evidence, Record
from kanmlip.report.study import Study
from kanmlip.report.verdicts import FEWEST_SEEDS, Finding, Verdict, judge
from kanmlip.report.wording import effect_text, number_text, provenance_text, sample_text, saying_text

_HOW_TO_READ = f"""\
Effects are ratios KAN / MLP (below 1: the KAN is lower) unless a unit stands behind them. Intervals are of 95 %: a bootstrap draws seeds
in pairs (the KAN's run with the MLP's of the same seed) and structures in common (all runs are measured on the same ones), and widens
the percentiles for the small number of seeds (Hesterberg, Am. Stat. 2015, 69, 371); below {PERCENTILES_FROM} seeds the interval is
Student's, with the bootstrap's standard deviation, and so wide that it says little. A claim is supported if the whole interval of each
of its parts lies where the claim says, refuted if one part's whole interval lies outside of it, else undecided. Fewer than
{FEWEST_SEEDS} seeds support no verdict: the effect and its interval are printed all the same. Costs are ratios measured by `kanmlip-bench`
with the contenders interleaved; a cost measured on a CPU supports no verdict, since the paper's models ran on a GPU. Times of training
runs are of machines that did other work too, and no verdict rests on them."""

_CONTROLS = """\
Heads in the KAN's place that are no KAN: an MLP with at most as many parameters, an MLP that takes as long, and a linear map. What a KAN
gains over the MLP of equal widths but not over these is not the KAN's doing."""
_FIXED_ERROR = """\
The error is the monitored validation error that every run of the two rows reaches at some epoch (the largest of their best); counts are
of whole epochs. All runs of a row anneal their learning rate over the same number of updates, so that a lower count is no shorter
training by itself. Intervals are over seeds alone."""


def render_report(study: Study, evidence: Evidence, benchmarks: Path, md: Sequence[MDCase], facts: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as Markdown.

    Args:
        study: Tables, claims and controls.
        evidence: All records; each budget is judged by itself.
        benchmarks: The folder of ``kanmlip-bench``'s files.
        md: Molecular dynamics as benchmarked.
        facts: Of the data sets, from :func:`kanmlip.report.data_facts.read_facts`.

    Returns:
        Text that depends on these alone, ending in a newline.
    """
    origin = f"Claims of {study.citation}. Made by `kanmlip-tables` from records and benchmarks alone."
    blocks = ["# Report: do the paper's claims hold?", *_changed(study), origin, _HOW_TO_READ]
    judged = {budget: Sources(study, evidence, budget, benchmarks, md) for budget in reversed(budgets_of(evidence))}
    verdicts = {budget: judge(study.claims, sources) for budget, sources in judged.items()}
    blocks.append("## Summary")
    for budget, found in verdicts.items():
        blocks += [f"**Budget {budget}**", _summary(found)]
    for budget, found in verdicts.items():
        blocks += [f"## What budget {budget} rests on", _foundation(found), f"## The claims, one by one (budget {budget})"]
        blocks += [_claim(number, verdict) for number, verdict in enumerate(found, start=1)]
        blocks += [f"## Controls (budget {budget})", _CONTROLS, control_section(judged[budget])]
        blocks += [f"## Learning curve (budget {budget})", learning_section(judged[budget])]
        blocks += [f"## Updates until a fixed error (budget {budget})", _FIXED_ERROR, fixed_error_section(judged[budget])]
    blocks += ["## Findings about the paper", findings_section(study, evidence, facts, benchmarks)]
    return "\n\n".join(blocks) + "\n"


def _changed(study: Study) -> list[str]:
    """A warning where values of the paper, which verdicts and findings use, are not those that it prints."""
    found = [f"Table {key}, '{row.label}': {what}" for key in study.tables for row, what in changed_values(study, key)]
    return [f"**Changed printed values**: {'; '.join(found)}."] if found else []


def _summary(verdicts: Sequence[Verdict]) -> str:
    lines = []
    for number, verdict in enumerate(verdicts, start=1):
        for finding in verdict.findings:
            first = finding is verdict.findings[0]
            aside = "" if finding.part.counts else " (does not count)"
            lines.append(
                (
                    f"{number}. {verdict.claim.text}" if first else "",
                    f"**{verdict.word}**" if first else "",
                    finding.part.label + aside,
                    effect_text(finding.part, finding.effect),
                    saying_text(finding.part),
                    number_text(finding.part, finding.paper),
                    finding.word + (f": {finding.reason}" if finding.reason else ""),
                    "; ".join((sample_text(finding.part, finding.effect), provenance_text(finding.effect))),
                )
            )
    headings = ("claim", "verdict", "part", "effect [95 %]", "claimed", "the paper's", "verdict of the part", "rests on")
    return pipe_table(headings, lines)


def _foundation(verdicts: Sequence[Verdict]) -> str:
    runs: dict[str, Record] = {run.run_id: run for verdict in verdicts for finding in verdict.findings for run in finding.effect.runs}
    if not runs:
        return "No run of this budget belongs to a claim."
    used = [runs[name] for name in sorted(runs)]
    lines = [f"- Runs: {len(used)}, seeds {', '.join(map(str, sorted({run.labels.seed for run in used})))}"]
    lines += [f"- {facet.name}: {'; '.join(sorted({facet.of(run) for run in used}))}" for facet in FACETS if facet.name != "Software"]
    files = sorted({name for verdict in verdicts for finding in verdict.findings for name in finding.effect.sources})
    lines.append(f"- Benchmarks: {', '.join(f'`{name}`' for name in files) or 'none'}")
    return "\n".join(lines)


def _claim(number: int, verdict: Verdict) -> str:
    blocks = [f"### {number}. {verdict.claim.text}", f"**{verdict.word.capitalize()}.**"]
    for finding in verdict.findings:
        blocks.append(_part(finding))
        if finding.effect.lines:
            blocks.append(_by_seed(finding))
    blocks += [f"- {' '.join(text.split())}" for text in verdict.claim.remarks]
    return "\n\n".join(blocks)


def _part(finding: Finding) -> str:
    part, effect = finding.part, finding.effect
    text = f"*{part.label}*: {effect_text(part, effect)}, claimed {saying_text(part)}, the paper's {number_text(part, finding.paper)}; "
    text += f"**{finding.word}**" + (f" ({finding.reason})" if finding.reason else "") + f". {sample_text(part, effect)}."
    remarks = "".join(f" {remark[0].upper()}{remark[1:]}." for remark in effect.remarks)
    return text + remarks + ("" if part.counts else " It does not count for the verdict.")


def _by_seed(finding: Finding) -> str:
    several = len({line.table for line in finding.effect.lines}) > 1
    headings = ["seed", "KAN", "MLP", "ratio"]
    lines = []
    for line in finding.effect.lines:
        cells = [str(line.seed), f"{line.ours:.5g}", f"{line.theirs:.5g}", f"{line.ours / line.theirs:.3f}"]
        lines.append([line.table, *cells] if several else cells)
    return pipe_table(["table", *headings] if several else headings, lines)
