"""What a URL keeps to itself: passwords and tokens stand in it, and in no message.

`TubeletError` passes all that it says through here, `Source` its name, and `pyav` the errors of FFmpeg.
"""

import re

HIDDEN = "***"

# A URL in a text ends at a space or a quote. Path() leaves one of its slashes.
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)([^\s'\"<>]+)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)(.+)", re.DOTALL)

# Behind ? and & of a query, and as cameras have them in the path: /user=admin&password=secret&channel=1
_SECRET = re.compile(
    r"([?&/;,][\w.-]*(?:password|passwd|passphrase|pass|pwd|token|secret|signature|sig|credential|auth|key)=)[^&/;,\s]*",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Put *** in the place of each user, password and token in the URLs of a text. The rest stays."""
    return _URL_IN_TEXT.sub(_without_secrets, text)


def redacted_url(url: str) -> str:
    """Do the same to a text that is one URL, or none: a password may hold spaces and quotes."""
    return redacted(_URL.sub(_without_secrets, url))


def _without_secrets(url: re.Match[str]) -> str:
    """A password may hold a slash, a question mark or an @. All up to the last @ is hidden where it has a colon."""
    scheme, rest = url.groups()
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    hidden, at, shown = rest.rpartition("@")
    if at and ":" in hidden:
        rest = f"{HIDDEN}@{shown}"
    elif "@" in authority:  # a user alone, which may be a token
        rest = f"{HIDDEN}@{rest.partition('@')[2]}"
    return scheme + _SECRET.sub(rf"\g<1>{HIDDEN}", rest)
