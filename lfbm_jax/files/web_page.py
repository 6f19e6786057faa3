"""Detects web pages saved in place of a download: a quota notice, a login, an error."""

import re
from pathlib import Path

BEGIN = 1024  # bytes that are searched, since comments may precede the first tag
PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<!--.*?-->|<\?xml.*?\?>)*<(?:!doctype\s+html|html|head)\b",
    re.IGNORECASE | re.DOTALL,
)


def is_web_page(path: Path) -> bool:
    """Whether a file begins like an HTML page; its name does not matter."""
    with open(path, "rb") as file:
        return PAGE.match(file.read(BEGIN)) is not None
