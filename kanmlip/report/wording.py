"""Effects and what they rest on in words, the same wherever a report speaks of them."""

from __future__ import annotations

from kanmlip.report.claims import Part
from kanmlip.report.effect import Effect

NOTHING = "—"
_UNITS = {"gain": " points", "md_memory": " MiB"}


def effect_text(part: Part, effect: Effect) -> str:
    """The effect with its interval: a ratio, a difference of gains in percentage points, or one of memories in MiB."""
    if effect.value is None:
        return NOTHING
    text = _digits(part, effect.value)
    if effect.interval is not None:
        low, high = (_digits(part, bound) for bound in effect.interval)
        text += f" [{low}, {high}]"
    return text + _UNITS.get(part.kind, "")


def number_text(part: Part, value: float | None) -> str:
    """The same of a number alone."""
    return NOTHING if value is None else _digits(part, value) + _UNITS.get(part.kind, "")


def _digits(part: Part, value: float) -> str:
    # Rounded far above what another processor changes in the last digits of a float.
    if part.kind == "gain":
        return f"{100 * value:+.1f}".replace("-", "−")
    return f"{value:+.1f}".replace("-", "−") if part.kind == "md_memory" else f"{value:.3f}"


def sample_text(part: Part, effect: Effect) -> str:
    """Seeds and structures, or rounds of a benchmark."""
    if not effect.seeds:
        return NOTHING
    if not effect.structures:
        return counted(effect.seeds[0], "round")
    pairs = zip(effect.seeds, effect.structures, strict=True)
    return " and ".join(
        counted(seeds, "seed") + (f" × {counted(structures, 'structure')}" if structures else "") for seeds, structures in pairs
    )


def counted(number: int, noun: str) -> str:
    """Such as ``1 seed`` and ``6 seeds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def saying_text(part: Part) -> str:
    """What the claim says of the effect."""
    if part.direction == "about":
        return f"within {100 * part.tolerance:.0f} % of the paper's"
    sign = "<" if part.direction == "lower" else ">"
    return f"{sign} {part.limit:g}"


def provenance_text(effect: Effect) -> str:
    """Commits, hardware, data and updates of the runs, or the benchmark's file."""
    if not effect.runs:
        return ", ".join(f"`{name}`" for name in effect.sources) or NOTHING
    commits = sorted({(run.environment.commit or "unknown")[:10] for run in effect.runs})
    hardware = sorted({run.environment.hardware or "unknown hardware" for run in effect.runs})
    stand_in = any(run.data.stand_in for run in effect.runs)
    updates = sorted({int(value) for run in effect.runs if (value := run.value("time/updates")) is not None})
    counts = f"{' or '.join(f'{count:,}' for count in updates)} updates" if updates else ""
    parts = [f"commit {', '.join(commits)}", "; ".join(hardware), counts, "stand-in data" if stand_in else ""]
    parts += [f"`{name}`" for name in effect.sources]
    return ", ".join(part for part in parts if part)
