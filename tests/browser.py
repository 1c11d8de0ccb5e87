"""Debian's Chromium, headless: opens a report, tells what went wrong in it and what a reader would see."""

import base64
import io
import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
LOGS = {"browser": "ALL", "performance": "ALL"}
OURS = ("file:", "data:", "blob:", "about:")
DESK = 1440

LOOKING = (Path(__file__).parent / "browser.js").read_text()  # functions that look at the page


class Browser:
    """One Chromium for all pages; every page starts on a wide screen, in light, with empty logs."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for switch in SWITCHES:
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", LOGS)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def open(self, page: Path, width: int = DESK, theme: str = "light", media: str = "") -> None:
        """Load `page` and wait until its figures are there."""
        self.driver.get("about:blank")
        self._emptied("browser"), self._emptied("performance")
        height = 844 if width < 500 else 900
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.show(theme, media)
        self.driver.get(page.as_uri())
        self.driver.execute_script(LOOKING)
        WebDriverWait(self.driver, 60).until(lambda _: self.ask("plots().every(isDrawn)"))

    def show(self, theme: str, media: str = "") -> None:
        """What the system says the reader prefers, light or dark, and whether it is a screen or paper."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        # a page is told of it as its next frame is made, which a busy machine does late
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.driver.execute_script(f"return {expression}")

    def complaints(self) -> list[str]:
        """What the page wrote to the console as a warning or an error since it was opened."""
        return [entry["message"] for entry in self._emptied("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened and that are not of this machine's files."""
        events = [json.loads(entry["message"])["message"] for entry in self._emptied("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(OURS)]

    def _emptied(self, log: str) -> list[dict[str, Any]]:
        return self.driver.get_log(log)

    def tabbed(self, times: int) -> list[str]:
        """What has the focus, one after another, when Tab is pressed so often."""
        self.driver.execute_script("watchFocus()")
        self.driver.switch_to.active_element.send_keys(Keys.TAB * times)
        return self.ask("focused")

    def pages(self) -> list[str]:
        """The text of each A4 page as printed, without its spaces."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", paper)
        pdf = PdfReader(io.BytesIO(base64.b64decode(printed["data"])))
        return [squeezed(page.extract_text()) for page in pdf.pages]


def squeezed(text: str) -> str:
    """Text without spaces and ligatures, as it can be found again in a PDF."""
    return "".join(unicodedata.normalize("NFKC", text).split())


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser: needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    found = Browser()
    try:
        yield found
    finally:
        found.driver.quit()
