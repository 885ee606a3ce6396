"""traceparent: the header by which a request is followed through several services (W3C Trace Context)."""

import re
import secrets
from dataclasses import dataclass, replace
from typing import Self

# Version 00 exactly; a later version may have more behind it, of which these parts are taken.
_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True)
class Trace:
    """Where a request stands: trace and span in hexadecimal digits, and the caller's flags."""

    trace: str
    span: str
    flags: str

    @classmethod
    def of(cls, traceparent: str | None) -> Self:
        """Take up the caller's trace with a span of its own, or begin one where no valid one is given."""
        found = None if traceparent is None else _FORM.fullmatch(traceparent.strip())
        own = cls(secrets.token_hex(16), secrets.token_hex(8), "00")
        if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
            return own
        if not int(found["trace"], 16) or not int(found["span"], 16):
            return own
        return replace(own, trace=found["trace"], flags=found["flags"])

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags}"
