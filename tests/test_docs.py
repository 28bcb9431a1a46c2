"""What the pages of the documentation say is so: their code runs, and they are all there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kan.bases import BASES

ROOT = Path(__file__).resolve().parent.parent
BASES_PAGE = ROOT / "docs" / "bases.md"


def python_of(page: Path) -> str:
    """The ```python blocks of a page, one program, with every line where it is on the page."""
    lines, language = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"```(\w*)", line)
        if fence:
            language = "" if language else fence.group(1) or "none"
        lines.append(line if language == "python" and not fence else "")
    return "\n".join(lines)


@pytest.fixture
def registry() -> Iterator[dict[str, type]]:
    """The registered bases, as before when the test is over."""
    before = dict(BASES)
    yield dict(before)
    BASES.clear()
    BASES.update(before)


def test_the_code_of_the_page_on_bases_runs(registry: dict[str, type], capsys: pytest.CaptureFixture[str]) -> None:
    source = python_of(BASES_PAGE)
    exec(compile(source, str(BASES_PAGE), "exec"), {"__name__": "page_on_bases"})
    assert BASES.keys() - registry.keys() == {"legendre"}
    (comment,) = re.findall(r"^print\(.*\)  # (.*)$", source, re.MULTILINE)
    assert capsys.readouterr().out == comment + "\n"


def test_code_is_where_it_is_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Words\n\n```python\nx = 1\n```\n\n```text\nno code\n```\n```\nneither\n```\n\n```python\n\nx / 0\n```\n")
    assert python_of(page).splitlines()[3] == "x = 1"
    with pytest.raises(ZeroDivisionError) as raised:
        exec(compile(python_of(page), "page.md", "exec"), {})
    assert raised.traceback[-1].lineno + 1 == 16


def test_the_page_on_bases_names_all_of_them() -> None:
    table = [line for line in BASES_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith('| `"')]
    rows = {re.findall(r'`"(\w+)"`', line)[0]: re.findall(r"`(\w+)\(", line)[0] for line in table}
    assert rows == {name: cls.__name__ for name, cls in BASES.items()}
    for line in table:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name, outside = cells[0].strip('`"'), re.findall(r'`"(\w+)"`', cells[-1])
        assert outside == [BASES[name]().extrapolation]  # type: ignore[attr-defined]


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [path for entry in menu for path in entry.values()]
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_code_of_the_page_on_layers_runs() -> None:
    page = ROOT / "docs" / "layers.md"
    exec(compile(python_of(page), str(page), "exec"), {"__name__": "page_on_layers"})
