"""How an operator gets to know of a fault: what the dashboard says meanwhile, and which alert comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

ALERTS = Path(__file__).resolve().parents[2] / "deploy" / "monitoring" / "alerts.yml"
KNOWN = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}


@dataclass(frozen=True)
class Seen:
    """What is seen of a fault.

    Attributes:
        page: of the dashboard, where one would look.
        says: what is there while the fault lasts, and was not before, as a regular expression; empty: nothing.
        alerts: that come if it lasts.
        but: why there is no alert, or nothing on the page.
    """

    page: str
    says: str
    alerts: tuple[str, ...] = ()
    but: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.alerts) - KNOWN
        assert not unknown, f"{ALERTS} has no alert {', '.join(sorted(unknown))}"
        assert self.but or (self.says and self.alerts), f"{self}: say why there is no alert, or nothing on the page"

    @property
    def where(self) -> str:
        """The name of the page."""
        return {"/": "Streams", "/farm": "Farm", "/events": "Events"}.get(self.page, self.page)

    @property
    def told(self) -> str:
        """The alerts, or why there is none."""
        return "; ".join(one for one in (", ".join(self.alerts), self.but) if one)
