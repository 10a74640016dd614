"""Somebody who looks at the dashboard in a real browser while a fault lasts, and takes a picture of it."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from browser import Browser
from seen import Seen
from selenium.common.exceptions import WebDriverException

SIZE = (1280, 1300)
"""Of a picture, in pixels."""
LOOK_S = 0.3
SHOWN_S = 60.0
"""A page has something to say within this time."""
AFTER_S = 60.0
"""So long after a fault the page has said it: Prometheus scrapes every 15 s, page and server ask every 5 s, and a
busy machine is slow."""
PASSES_S = 15.0
"""What a page still says of an earlier fault passes within this time, or it stays."""
SERVER_LOST = "No connection to the dashboard"
DRAWN_S = 1.0
DRAWN = "return document.querySelector('.card, .lead, .events li, .facts, .empty') !== null"
SAID = "[...document.querySelectorAll('#banners, #main')].map((one) => one.innerText).join('\\n')"
TEXT = f"return {SAID}"
NOTING = (
    f"window.noted = []; new MutationObserver(() => window.noted.push({SAID}))"
    ".observe(document, {childList: true, characterData: true, subtree: true})"
)
"""Each page notes all that it says: what soon passes would be missed by who looks a second late."""
NOTED = f"return [...(window.noted ?? []).splice(0), {SAID}]"
SHOWS_PICTURES = "return [...document.images].every((one) => one.complete)"


@dataclass(frozen=True)
class OpenPage:
    """A dashboard that can be reached.

    Attributes:
        url: where.
        cookies: of somebody who has logged in; none where nobody has to.
        at_stake: it runs on a node of the farm: where that is lost, the page says that it has lost its server.
    """

    url: str
    cookies: Mapping[str, str] = field(default_factory=dict)
    at_stake: bool = False


class Onlooker:
    """One browser.

    Args:
        pictures: the folder that they go to.
    """

    def __init__(self, pictures: Path) -> None:
        shutil.rmtree(pictures, ignore_errors=True)  # those of an earlier run
        pictures.mkdir(parents=True)
        self._pictures = pictures
        self._taken = 0
        self._browser = Browser()
        self._browser.shape(SIZE)
        self._browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTING})

    def close(self) -> None:
        """Look no more."""
        self._browser.close()

    @contextlib.contextmanager
    def looking(self, page: OpenPage, seen: Seen, what: str) -> Iterator[Look]:
        """Look at a page of the dashboard while something happens.

        Args:
            page: the dashboard's.
            seen: what it should say.
            what: happens; a part of the picture's name.
        """
        self._taken += 1
        picture = self._pictures / f"{self._taken:02}-{what.replace(' ', '-')}.png"
        for name, value in page.cookies.items():
            cookie = {"name": name, "value": value, "url": page.url}
            self._browser.driver.execute_cdp_cmd("Network.setCookie", cookie)
        self._browser.open(page.url + seen.page)
        self._browser.until(lambda: self._browser.run(DRAWN), f"{seen.page} has not been drawn", SHOWN_S)
        says = f"{seen.says}|{SERVER_LOST}" if seen.says and page.at_stake else seen.says
        look = Look(self._browser, seen.page, says, picture)
        try:
            yield look
        finally:
            look.end()
            with contextlib.suppress(WebDriverException):  # what went wrong is told already
                self._browser.open("about:blank")


class Look:
    """A look at a page, beside a fault.

    Attributes:
        picture: the name of its file.
    """

    def __init__(self, browser: Browser, page: str, says: str, picture: Path) -> None:
        self._browser, self._page, self._says, self._file = browser, page, says, picture
        self.picture = picture.name
        self._before = self._left_before()
        self._over, self._done = threading.Event(), threading.Event()
        self._shown = False
        self._error: WebDriverException | OSError | None = None
        self._thread = threading.Thread(target=self._look, name="onlooker", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def until_shown(self) -> None:
        """Give the page some time to say what it should."""
        self._done.wait(AFTER_S)

    def finish(self) -> None:
        """Let the page have said it by now.

        Raises:
            AssertionError: it has not, or no picture could be taken.
        """
        self.until_shown()
        self.end()
        if self._error is not None:
            raise AssertionError(f"no picture of {self._page}: {self._error}") from self._error
        if not self._shown:
            self._take()
            assert not self._says, (
                f"{self._page} has not said {self._says!r} during the fault, or {AFTER_S:g} s after it; "
                f"it says ({self.picture}):\n{self._browser.run(TEXT)}"
            )

    def _left_before(self) -> Counter[str]:
        """What is left there of earlier, after a while in which that may pass."""
        deadline = time.monotonic() + PASSES_S
        while (left := self._said()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return left

    def _said(self) -> Counter[str]:
        """What it has said since this was last asked, and says now."""
        found: Counter[str] = Counter()
        for text in self._browser.run(NOTED) if self._says else ():
            found |= Counter(match[0] for match in re.finditer(self._says, text))
        return found

    def _look(self) -> None:
        try:
            while self._says and not self._over.wait(LOOK_S):
                if self._said() - self._before:
                    self._take()
                    self._shown = True
                    break
        except (WebDriverException, OSError) as error:
            self._error = error
        self._done.set()

    def _take(self) -> None:
        """Take a picture of the page, once what it shows has been drawn."""
        deadline = time.monotonic() + DRAWN_S
        while not self._browser.run(SHOWS_PICTURES) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._file.write_bytes(self._browser.driver.get_screenshot_as_png())
