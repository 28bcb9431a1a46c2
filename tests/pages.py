"""Programs on the pages of the documentation."""

import re
from pathlib import Path

__all__ = ["python_of"]


def python_of(page: Path) -> str:
    """The ```python blocks of a page, one program, with every line where it is on the page."""
    lines, language = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"```(\w*)", line)
        if fence:
            language = "" if language else fence.group(1) or "none"
        lines.append(line if language == "python" and not fence else "")
    return "\n".join(lines)
