"""The pages in a real browser, on a real installation served by the real command: sign in, find, look, edit, settle by keyboard, close.

The main job (find, edit, settle, close) on the embedded engines, and again on object storage, PostgreSQL and Elasticsearch; what is the page's
own work once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from core.eras import parse_date
from tests.installed import Installation, copied, done
from tests.machine import need
from tests.web.browsing import PATIENCE, chromium, complaints, loaded, press, serving, shown, sign_in

need("chromium", "chromedriver")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["embedded", "real"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Installation]]:
    """The demo, served: a copy of the embedded one, and the one on real engines itself; its address."""
    if request.param == "real":
        place: Installation = request.getfixturevalue("demo_real")
    else:
        place = copied(request.getfixturevalue("demo"), tmp_path_factory.mktemp("served"))
    with serving(place) as url:
        yield url, place


@pytest.fixture(scope="module")
def password(served: tuple[str, Installation]) -> str:
    """The officer's new password, as the command prints it."""
    return str(done("person", "password", "officer", data=served[1].data)[-1]["password"])


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(chrome: webdriver.Chrome, served: tuple[str, Installation]) -> Iterator[webdriver.Chrome]:
    """A browser that knows nobody and has complained of nothing."""
    yield chrome
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chrome.get("about:blank")
    chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chrome.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": served[0].rstrip("/"), "storageTypes": "all"})
    chrome.get_log("browser")


own = pytest.mark.parametrize("served", ["embedded"], indirect=True)
"""The page's own work, in which no engine has a part."""


def test_find_and_look(browser: webdriver.Chrome, served: tuple[str, Installation], password: str) -> None:
    sign_in(browser, served[0], password)
    browser.find_element(By.ID, "q").send_keys("ハセガワ", Keys.ENTER)
    hit = shown(browser, ".list a")
    assert "長谷川" in hit.text
    hit.click()
    shown(browser, ".canvas img")
    WebDriverWait(browser, PATIENCE).until(loaded)
    assert "長谷川" in browser.find_element(By.TAG_NAME, "h1").text
    image, data = browser.find_element(By.CSS_SELECTOR, ".canvas"), browser.find_element(By.CSS_SELECTOR, ".items")
    assert image.rect["x"] + image.rect["width"] <= data.rect["x"]
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert complaints(browser) == []


def test_an_edit_is_a_new_generation_and_found_at_once(
    browser: webdriver.Chrome, served: tuple[str, Installation], password: str
) -> None:
    sign_in(browser, served[0], password)
    browser.find_element(By.ID, "q").send_keys("木村一郎", Keys.ENTER)
    shown(browser, ".list a").click()
    shown(browser, "h1 + .tag ~ a.button").click()
    note = shown(browser, ".entry textarea:not(#why)")
    note.send_keys("、鶴亀町へ転居")
    browser.find_element(By.CSS_SELECTOR, ".acts button").click()
    missing = shown(browser, "#why-error")
    assert missing.text == "変更の理由を入れてください。"
    assert browser.switch_to.active_element.get_attribute("id") == "why"
    assert browser.find_element(By.CSS_SELECTOR, ".entry textarea:not(#why)").get_attribute("value").endswith("転居")
    browser.switch_to.active_element.send_keys("本人の届出による")
    browser.find_element(By.CSS_SELECTOR, ".acts button").click()
    newest = shown(browser, ".history li[aria-current]")
    assert "第 2 世代" in newest.text
    assert "本人の届出による" in newest.text
    browser.get(f"{served[0]}?q=%E9%B6%B4%E4%BA%80%E7%94%BA")
    assert "木村一郎" in shown(browser, ".list a").text


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
        WebDriverWait(browser, PATIENCE).until(loaded)
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
        until = time.monotonic() + PATIENCE
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


@own
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


@own
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


@own
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
    WebDriverWait(browser, PATIENCE).until(lambda page: page.current_url != here)
    assert "done=settled" in browser.current_url
