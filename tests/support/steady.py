"""Properties that are tried with the same values on every machine, however long it takes."""

from hypothesis import settings

steady = settings(derandomize=True, deadline=None, database=None)
