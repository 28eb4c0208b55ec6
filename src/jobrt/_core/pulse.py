"""When those who look from time to time do so: together, as each wake-up of an idle process costs some 150 µs."""


def next_pulse(now: float, interval: float) -> float:
    """Return the next multiple of the interval. All who have the same one wake up at the same time."""
    pulse = (now // interval + 1) * interval
    return pulse if pulse > now else pulse + interval  # rounded down to it
