"""`docs/first-mistakes.md` shows what these attempts really get."""

from pathlib import Path

import pytest

from tests.first_mistakes import texts

PAGE = Path(__file__).parents[1] / "docs" / "first-mistakes.md"
pytestmark = pytest.mark.checkout


def test_the_page_shows_what_each_attempt_gets(tmp_path: Path) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    found = texts(tmp_path)
    assert len(rows) == len(found) >= 10
    for row, (attempt, now) in zip(rows, found.items(), strict=True):
        assert row.startswith(f"| {attempt} | ")
        assert row.endswith(f" | {now} |"), row
