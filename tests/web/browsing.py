"""Chromium as the tests drive it, on an installation that the real command serves: what every test of pages in a browser needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.installed import DAICHO, Installation, environment

PATIENCE = 20
"""Seconds that a page may take on a busy machine."""


@contextmanager
def serving(place: Installation, program: Sequence[str] = (str(DAICHO),), **more: str) -> Iterator[str]:
    """The installation served by a process of its own, with these environment variables; its address, with a slash at the end."""
    command = [*program, "serve", "--port", "0", "--json", "--data", str(place.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(**more), cwd="/")
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split('"url": "')[1].split('"')[0]
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def chromium(folder: Path, *, language: str = "ja") -> Iterator[webdriver.Chrome]:
    """Debian's Chromium without a window on the screen, with a profile of its own in `folder`."""
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        f"lang={language}",
    ):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        resize(driver, 1280, 800)
        yield driver
    finally:
        driver.quit()


def resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    """Give the page so many CSS pixels. A window is never narrower than 500; the page of a telephone is."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def sign_in(browser: webdriver.Chrome, url: str, password: str, login: str = "officer") -> None:
    browser.get(url)
    browser.find_element(By.ID, "login").send_keys(login)
    browser.find_element(By.ID, "password").send_keys(password, Keys.ENTER)
    WebDriverWait(browser, PATIENCE).until(lambda page: page.find_elements(By.ID, "q"))


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def shown(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The first element of that kind, once it is there."""
    found = WebDriverWait(browser, PATIENCE).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))
    assert isinstance(found[0], WebElement)
    return found[0]


def loaded(browser: webdriver.Chrome) -> bool:
    """Whether every image on the page that is to be seen at once has come."""
    script = "return [...document.images].filter(i => i.src && i.loading != 'lazy').every(i => i.complete && i.naturalWidth > 0)"
    return bool(browser.execute_script(script))


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser complained of: blocked code, missing files."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
