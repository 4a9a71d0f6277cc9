"""The page of the paper's tables is what the literature, the costs and no results render to."""

import json
from pathlib import Path

import pytest
from reproduce_page import COSTS, PAGE, main, page, shown

from auxilearn.experiments.reproduce._registry import REPRODUCTIONS, reproduction

TEXT = page(None, json.loads(COSTS.read_text("utf-8")) if COSTS.exists() else {})


def test_the_page_is_what_it_renders_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert PAGE.read_text("utf-8") == TEXT, "write it again: python benchmarks/reproduce_page.py"
    assert main(["--page", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text("utf-8") == TEXT
    assert "Wrote" in capsys.readouterr().out


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_every_table_says_how_to_fill_it_and_shows_what_others_state(name: str) -> None:
    chosen = reproduction(name)
    assert f"auxilearn reproduce {name} --data DIR" in TEXT
    for cell in chosen.cells:
        part = TEXT.split(f"### {name}: {cell.name}\n")[1].split("\n## ")[0].split("\n### ")[0]
        for source in cell.literature:
            for row in source.rows.values():
                for stated in row.values():
                    assert f"{stated.mean:g}" in part
        # Nothing was measured on these data: each cell of ours says so, and none has a number.
        mine = [
            line for line in part.splitlines() if line.startswith("| ") and line.split(" | ")[0][2:] in shown(cell, {})
        ]
        assert mine
        assert all("needs the data" in line for line in mine)
