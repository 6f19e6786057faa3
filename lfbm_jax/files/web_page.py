"""Web pages saved under the name of a file: a quota notice, a login, an error."""

import re
from pathlib import Path

BEGIN = 1024  # bytes looked at: comments may stand before the first tag
PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<!--.*?-->|<\?xml.*?\?>)*<(?:!doctype\s+html|html|head)\b",
    re.IGNORECASE | re.DOTALL,
)


def is_web_page(path: Path) -> bool:
    """Whether a file begins as HTML does, whatever its name says."""
    with open(path, "rb") as file:
        return PAGE.match(file.read(BEGIN)) is not None
