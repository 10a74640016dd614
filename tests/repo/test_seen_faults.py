"""docs/proof.md says of each end-to-end fault what the dashboard says meanwhile, and which alert comes."""

from __future__ import annotations

from pathlib import Path

from faults import FIRST, OTHERS, Fault
from stack_faults import STACK_FIRST, STACK_OTHERS

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof.md"
HEAD = "| Fault | Page | It says | Alert |\n|---|---|---|---|\n"


def row(fault: Fault) -> str:
    seen = fault.seen
    says = f"`{seen.says}`".replace("|", "\\|") if seen.says else "nothing new"
    return f"| {fault.name} | {seen.where} | {says} | {seen.told} |\n"


def test_the_docs_say_how_each_fault_is_seen() -> None:
    table = HEAD + "".join(map(row, FIRST + OTHERS + STACK_FIRST + STACK_OTHERS))
    assert table in PROOF.read_text(), f"docs/proof.md must have this table:\n{table}"
