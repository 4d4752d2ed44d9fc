"""The page of costs is what the declarations say today."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_costs_is_printed_from_the_declarations() -> None:
    document = runpy.run_path(str(ROOT / "scripts" / "costs"))["document"]
    assert (ROOT / "docs" / "costs.md").read_text(encoding="utf-8").rstrip() == document().rstrip(), (
        "run scripts/costs > docs/costs.md"
    )
