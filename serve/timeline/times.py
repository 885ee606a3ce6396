"""Times as people and players write them."""

STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


def clock(seconds: float, *, tenths: bool = False) -> str:
    """m:ss, or h:mm:ss from an hour on: 1:02, 1:02.5 with tenths, 1:00:00."""
    whole, part = divmod(round(max(seconds, 0) * 10), 10) if tenths else (round(max(seconds, 0)), 0)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{text}.{part}" if tenths else text


def spoken(seconds: float) -> str:
    """How long something lasts, in words: 2 hours 5 minutes, 1 minute 4 seconds, 3.5 seconds."""
    if seconds < 10:
        return f"{seconds:.1f} seconds"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "hour"), (minutes, "minute"), (rest, "second")]
    named = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in parts if count]
    return " ".join(named[:2])


def ticks(first: float, last: float, most: int) -> list[float]:
    """Round times from first to last, at most `most` of them."""
    step = next((step for step in STEPS if (last - first) / step <= most), STEPS[-1])
    begin = -(-first // step) * step
    return [begin + number * step for number in range(int((last - begin) // step) + 1)]
