"""Debian's chromium, driven by selenium."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from servers import find_program

PHONE, DESKTOP = (390, 844), (1440, 900)
WAIT_S = 30.0


class Browser:
    """A headless browser.

    Attributes:
        driver: selenium's.
    """

    def __init__(self) -> None:
        options = Options()
        options.binary_location = find_program("chromium", "chromium")
        options.add_argument("--headless=new")
        options.add_argument("--disable-dev-shm-usage")
        # no request of the browser itself
        options.add_argument("--disable-background-networking")
        options.add_argument("--disable-component-update")
        options.add_argument("--no-first-run")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(find_program("chromedriver", "chromium-driver")))
        self.shape()

    def close(self) -> None:
        """End it."""
        self.driver.quit()

    def forget(self) -> None:
        """Forget cookies, storage and logs, and show nothing."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.zone("")
        self.shape()
        self.driver.get_log("browser")
        self.driver.get_log("performance")

    def shape(self, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
        """Show pages at this size, on a screen that is light or dark."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def permit(self, permission: str, origin: str) -> None:
        """Give a page a permission that its viewer would be asked for."""
        granted = {"origin": origin, "permissions": [permission]}
        self.driver.execute_cdp_cmd("Browser.grantPermissions", granted)

    def zone(self, name: str) -> None:
        """Live in a time zone."""
        self.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": name})

    def click_at(self, element: WebElement, share: float) -> None:
        """Click on an element, so far from its left as this share of its width."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        offset = round((share - 0.5) * element.size["width"])
        webdriver.ActionChains(self.driver).move_to_element_with_offset(element, offset, 0).click().perform()

    def expect_errors(self, *texts: str) -> None:
        """Say which answers of the server the page has shown as it should; the console has a line for each."""
        kept = [line for line in self.errors() if not any(text in line for text in texts)]
        assert kept == []

    def open(self, url: str) -> None:
        """Go to a page."""
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """Return the element, once it is there and shown."""
        return self.until(lambda: next((one for one in self.all(selector) if one.is_displayed()), None), selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that are there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the text of what is there, or nothing; it may be drawn anew meanwhile."""
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)
        return "\n".join(found)

    def until_text(self, selector: str, text: str, within_s: float = WAIT_S) -> None:
        """Wait until a text is shown there."""
        try:
            self.until(lambda: text in self.text(selector), text, within_s)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {selector}: {self.text(selector)!r}") from None

    def until(self, condition: Callable[[], Any], what: str = "", within_s: float = WAIT_S) -> Any:
        """Wait until something holds; return it."""
        waiting = WebDriverWait(self.driver, within_s, 0.03, [StaleElementReferenceException])
        try:
            return waiting.until(lambda _: condition(), what)
        except TimeoutException:
            raise AssertionError(f"{what or 'it'} has not come in {within_s:g} s") from None

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector: str, most: int = 60) -> None:
        """Press the tab key until the element has the focus."""
        for _ in range(most):
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{selector} is not reached by the tab key")

    def errors(self) -> list[str]:
        """Return what the console complains about since it was last asked."""
        return [f"{line['level']}: {line['message']}" for line in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since this was last asked."""
        messages = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
