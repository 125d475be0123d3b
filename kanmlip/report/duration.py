"""Wall-clock durations: reading the paper's "4h 51m" and printing ours in the same style."""

from __future__ import annotations

import re

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PATTERN = re.compile(r"(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*m)?\s*(?:(\d+)\s*s)?")


def parse_duration(text: str) -> int:
    """Seconds of a duration printed as days, hours, minutes and seconds in this order, each optional.

    Args:
        text: Such as ``2d 8h 55m`` or ``21h 41m``.

    Raises:
        ValueError: If the text is empty or of another form.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ValueError(f"'{text}' is not a duration such as '2d 8h 55m'")
    return sum(int(number) * scale for number, scale in zip(match.groups(), _UNITS.values(), strict=True) if number)


def format_duration(seconds: float) -> str:
    """Print seconds as the paper does, with seconds where the paper's minutes would be too coarse."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    minutes = round(seconds / 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days}d {hours}h {rest}m" if days else f"{hours}h {rest}m"
