"""The pages in a real browser, on a real installation served by the real command: sign in, find, look, settle by keyboard, close."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from core.eras import parse_date
from tests.installed import DAICHO, Installation, copied, done, environment

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="needs Debian's chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def served(demo: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Installation]]:
    """A copy of the demo, served; its address."""
    place = copied(demo, tmp_path_factory.mktemp("served"))
    command = [str(DAICHO), "serve", "--port", "0", "--json", "--data", str(place.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd="/")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.split('"url": "')[1].split('"')[0], place
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def password(served: tuple[str, Installation]) -> str:
    """The officer's new password, as the command prints it."""
    return str(done("person", "password", "officer", data=served[1].data)[-1]["password"])


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "lang=ja",
    ):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_argument("--window-size=1280,800")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def sign_in(browser: webdriver.Chrome, url: str, password: str) -> None:
    browser.get(url)
    browser.find_element(By.ID, "login").send_keys("officer")
    browser.find_element(By.ID, "password").send_keys(password, Keys.ENTER)
    WebDriverWait(browser, 10).until(lambda page: page.find_elements(By.ID, "q"))


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def shown(browser: webdriver.Chrome, selector: str) -> WebElement:
    found = WebDriverWait(browser, 10).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))
    assert isinstance(found[0], WebElement)
    return found[0]


def loaded(browser: webdriver.Chrome) -> bool:
    """Whether every image on the page that is to be seen at once has come."""
    script = "return [...document.images].filter(i => i.src && i.loading != 'lazy').every(i => i.complete && i.naturalWidth > 0)"
    return bool(browser.execute_script(script))


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser complained of: blocked code, missing files."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def test_find_and_look(browser: webdriver.Chrome, served: tuple[str, Installation], password: str) -> None:
    sign_in(browser, served[0], password)
    browser.find_element(By.ID, "q").send_keys("ハセガワ", Keys.ENTER)
    hit = shown(browser, ".list a")
    assert "長谷川" in hit.text
    hit.click()
    shown(browser, ".canvas img")
    WebDriverWait(browser, 10).until(loaded)
    assert "長谷川" in browser.find_element(By.TAG_NAME, "h1").text
    image, data = browser.find_element(By.CSS_SELECTOR, ".canvas"), browser.find_element(By.CSS_SELECTOR, ".items")
    assert image.rect["x"] + image.rect["width"] <= data.rect["x"]
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert complaints(browser) == []


def test_a_batch_is_settled_by_keyboard_alone_and_closed(
    browser: webdriver.Chrome, served: tuple[str, Installation], password: str
) -> None:
    url, place = served
    batch = next(row for row in done("batch", "list", data=place.data) if row["ledger"] == "dv-support")
    sign_in(browser, url, password)
    browser.get(f"{url}batches/{batch['batch']}/")
    start = shown(browser, ".closing a.button")
    start.send_keys(Keys.ENTER)
    finished = f"/batches/{batch['batch']}/?done=finished"
    cases = 0
    while finished not in browser.current_url:
        shown(browser, "#settle")
        WebDriverWait(browser, 10).until(loaded)
        here, fields = browser.current_url, len(browser.find_elements(By.CSS_SELECTOR, "#settle > .look [data-field]"))
        assert complaints(browser) == []
        press(browser, Keys.F2)
        assert browser.execute_script("return document.getElementById('whole').open")
        press(browser, Keys.F2)
        for number in range(fields):
            focused = browser.switch_to.active_element
            assert focused.get_attribute("data-field") is not None or focused.get_attribute("type") == "radio"
            if number == 0 and focused.tag_name == "input" and focused.get_attribute("type") != "radio":
                before = focused.get_attribute("value") or ""
                press(browser, Keys.ESCAPE)
                assert focused.get_attribute("value") == ""
                press(browser, before)
            press(browser, Keys.ENTER)
        if not fields:
            press(browser, Keys.ENTER)
        until = time.monotonic() + 10
        while browser.current_url == here and time.monotonic() < until:
            time.sleep(0.05)
        assert browser.current_url != here, browser.find_element(By.TAG_NAME, "main").text
        cases += 1
    assert cases
    assert browser.switch_to.active_element.text == "このバッチを締める"
    press(browser, Keys.ENTER)
    shown(browser, ".closing .tag.sealed")
    after = next(row for row in done("batch", "list", data=place.data) if row["batch"] == batch["batch"])
    assert after["waiting"] == 0
    assert after["sheets"] == after["sealed"] + after["refused"]


def test_the_day_shown_while_typing_is_the_day_that_is_kept(
    browser: webdriver.Chrome, served: tuple[str, Installation], password: str
) -> None:
    url, place = served
    batch = next(row for row in done("batch", "list", data=place.data) if row["ledger"] == "care-clients")
    sign_in(browser, url, password)
    browser.get(f"{url}queue/?batch={batch['batch']}")
    shown(browser, "table a.button").click()
    shown(browser, "#settle")
    eras, years = (
        ("令和", "平成", "昭和", "大正", "明治", "R", "ｓ", "昭", "西暦", "", "X"),
        ("元", 1, 6, 31, 64, 65, 1872, 1979),
    )
    writings = ("{}{}年{}月{}日", "{}{}.{}.{}", "{} {}/{}/{}", "{}{}-{}.{}")
    days = ((1, 7), (1, 8), (2, 29), (4, 30), (5, 1), (12, 25), (13, 1))
    texts = [form.format(era, year, *day) for form in writings for era in eras for year in years for day in days]
    echoed = browser.execute_script("return arguments[0].map(dayOf)", texts)
    kept = [parsed.day.isoformat() if (parsed := parse_date(text)) else "" for text in texts]
    assert sum(map(bool, kept)) > 300
    assert dict(zip(texts, echoed, strict=True)) == dict(zip(texts, kept, strict=True))


def test_a_key_changes_a_character_to_its_variant(
    browser: webdriver.Chrome, served: tuple[str, Installation], password: str
) -> None:
    url, place = served
    batch = next(row for row in done("batch", "list", data=place.data) if row["ledger"] == "care-clients")
    sign_in(browser, url, password)
    browser.get(f"{url}queue/?batch={batch['batch']}")
    shown(browser, "table a.button").click()
    field = shown(browser, "#settle > .look input[data-field]:not([type=radio])")
    browser.execute_script("arguments[0].value = '宮崎𠮷'", field)
    seen = []
    for keys in ([Keys.END, Keys.F8], [Keys.ARROW_LEFT, Keys.F8], [Keys.F8], [Keys.F8]):
        field.send_keys(*keys)
        seen.append(field.get_attribute("value"))
    assert seen == ["宮崎吉", "宮﨑吉", "宮嵜吉", "宮崎吉"]


def test_everything_is_there_without_a_script(
    browser: webdriver.Chrome, served: tuple[str, Installation], password: str
) -> None:
    url, place = served
    batch = next(row for row in done("batch", "list", data=place.data) if row["ledger"] == "vacant-houses")
    sign_in(browser, url, password)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(f"{url}queue/?batch={batch['batch']}")
    shown(browser, "table a.button").click()
    here = browser.current_url
    shown(browser, "#go").click()
    WebDriverWait(browser, 10).until(lambda page: page.current_url != here)
    assert "done=settled" in browser.current_url
