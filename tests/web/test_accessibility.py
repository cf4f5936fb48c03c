"""No page of the main job breaks a rule of axe-core: every rule it has, AAA, best practice and experimental ones included.

In both languages on a wide window, and in Japanese on one as narrow as a telephone; in neither language anything may be wider than the window. What axe cannot see, such as
whether the order of the keys makes sense, is in test_chromium.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.installed import Installation, copied, done
from tests.machine import need
from tests.servers.build import Missing
from tests.web.axe.rules import axe_source
from tests.web.browsing import PATIENCE, chromium, loaded, press, resize, serving, shown, sign_in

need("chromium", "chromedriver")

pytestmark = pytest.mark.slow

NARROW, WIDE = (375, 740), (1280, 800)

BROKEN = """
const end = arguments[0];
const rules = Object.fromEntries(axe.getRules().map((rule) => [rule.ruleId, { enabled: true }]));
axe.run(document, { rules, resultTypes: ["violations"] }).then((found) => end(
  found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html} ${node.failureSummary}`))
));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return axe_source()
    except Missing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def served(demo: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Installation]]:
    """A copy of the demo, served; its address. `outsider` has no post."""
    place = copied(demo, tmp_path_factory.mktemp("accessible"))
    done("person", "add", "outsider", "--name", "外野 一郎", data=place.data)
    with serving(place) as url:
        yield url, place


@pytest.fixture(scope="module")
def passwords(served: tuple[str, Installation]) -> dict[str, str]:
    return {
        login: str(done("person", "password", login, data=served[1].data)[-1]["password"])
        for login in ("officer", "outsider")
    }


@pytest.mark.parametrize("language", ["ja", "en"])
def test_no_page_breaks_a_rule(
    axe: str, served: tuple[str, Installation], passwords: dict[str, str], tmp_path: Path, language: str
) -> None:
    broken: list[str] = []
    seen = set()
    with chromium(tmp_path, language=language) as browser:
        for name in pages(browser, served[0], language, passwords):
            assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
            WebDriverWait(browser, PATIENCE).until(loaded)
            browser.execute_script(axe)
            for size in (NARROW, WIDE):
                resize(browser, *size)
                where = f"{name}, {size[0]} wide: "
                # Of what axe looks at, another language changes only words; how the words fit is measured below.
                if language == "ja" or size == WIDE:
                    broken += [where + line for line in browser.execute_async_script(BROKEN)]
                over = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
                if over > 0:
                    broken.append(f"{where}{over} pixels wider than the window")
            seen.add(name)
    assert not broken, "\n".join(broken)
    assert len(seen) > 35


def pages(browser: webdriver.Chrome, url: str, language: str, passwords: dict[str, str]) -> Iterator[str]:
    """Go from page to page as an officer does, with what each may show: results, nothing, mistakes. Yields a name where one is to be looked at."""

    def go(path: str) -> None:
        browser.get(url + path)

    def links(selector: str) -> list[str]:
        return [str(link.get_attribute("href")) for link in browser.find_elements(By.CSS_SELECTOR, selector)]

    def press_first(selector: str) -> None:
        old = browser.find_element(By.TAG_NAME, "html")
        browser.find_element(By.CSS_SELECTOR, selector).send_keys(Keys.ENTER)
        WebDriverWait(browser, PATIENCE).until(lambda page: page.find_element(By.TAG_NAME, "html") != old)

    def submit(selector: str) -> None:
        old = browser.find_element(By.TAG_NAME, "html")
        browser.execute_script("arguments[0].submit()", browser.find_element(By.CSS_SELECTOR, selector))
        WebDriverWait(browser, PATIENCE).until(lambda page: page.find_element(By.TAG_NAME, "html") != old)

    def unfold(selector: str) -> None:
        for closed in browser.find_elements(By.CSS_SELECTOR, f"{selector}:not([open]) > summary"):
            closed.click()

    go(f"language/?to={language}")
    yield "sign in"
    go("sign-in/?expired=1")
    yield "sign in again"
    browser.find_element(By.ID, "login").send_keys("nobody")
    browser.find_element(By.ID, "password").send_keys("nothing that fits", Keys.ENTER)
    shown(browser, "[role=alert]")
    yield "sign in refused"
    sign_in(browser, url, passwords["outsider"], "outsider")
    yield "search without a ledger"
    go("ledgers/")
    yield "no ledgers"
    go("records/r-aaaaaaaaaaaaaaaaaaaaaaaaaa/")
    yield "not found"
    browser.find_element(By.CSS_SELECTOR, "a.button").click()
    submit("form[action*=sign-out]")

    sign_in(browser, url, passwords["officer"])
    yield "search"
    browser.find_element(By.CSS_SELECTOR, "details.help summary").click()
    yield "search with help"
    go("?q=%E3%81%AA%E3%81%84%E8%A8%80%E8%91%89")
    yield "nothing found"
    go("?q=%22")
    yield "a search that cannot be understood"
    go("?q=&past=1")
    yield "past generations"
    go("?q=")
    yield "everything"
    for times in ("once", "twice"):
        press_first(".facets a")
        yield f"narrowed {times}"
    go("?q=%E9%95%B7%E8%B0%B7%E5%B7%9D")
    yield "results"
    browser.get(links(".list a")[0])
    yield "record"
    record = browser.current_url
    browser.get(f"{record}edit/")
    yield "edit"
    browser.find_element(By.CSS_SELECTOR, "input[data-date]").clear()
    browser.find_element(By.CSS_SELECTOR, "input[data-date]").send_keys("R99.99.99")
    press_first(".acts button")
    yield "edit with mistakes"
    browser.get(f"{record}edit/")
    browser.execute_script("document.querySelector('[name=base]').value = '999999'")
    browser.find_element(By.ID, "why").send_keys("転居の届出による")
    press_first(".acts button")
    yield "edited by somebody else meanwhile"
    browser.get(f"{record}edit/")
    field = browser.find_element(By.CSS_SELECTOR, ".entry textarea:not(#why), .entry input[inputmode=text]")
    field.send_keys("追")
    browser.find_element(By.ID, "why").send_keys("聞き取りによる追記")
    press_first(".acts button")
    yield "record with generations"
    browser.get(f"{record}?generation=1")
    yield "past generation"
    browser.get(record)
    unfold("details.adding")
    attached = {"ja": "test_accessibility.py", "en": "browsing.py"}[language]  # the same file again would be refused
    browser.find_element(By.ID, "files").send_keys(str(Path(__file__).resolve().with_name(attached)))
    browser.find_element(By.ID, "attach-why").send_keys("本人から受領")
    press_first("form[action*='/attach/'] button")
    unfold("details.adding")
    yield "record with attachments"
    browser.find_element(By.ID, "detach-why").send_keys("取下げ")
    press_first("form[action*='/detach/'] button")
    yield "attachments with a mistake"
    go("ledgers/")
    yield "ledgers"

    go("batches/")
    yield "batches"
    for address in links("table a"):
        browser.get(address)
        ready = bool(browser.find_elements(By.CSS_SELECTOR, ".closing form"))
        yield f"batch {'to be closed' if ready else 'with sheets that wait'}"
    browser.get(f"{address}?state=refused")
    yield "batch, none of its sheets"
    go("queue/")
    yield "queue"
    kinds: dict[str, str] = {}
    for address in links("a.howmany"):
        browser.get(address)
        for row in browser.find_elements(By.CSS_SELECTOR, "table tbody tr"):
            reason = row.find_element(By.TAG_NAME, "td").text
            kinds.setdefault(reason, str(row.find_element(By.TAG_NAME, "a").get_attribute("href")))
    yield "queue of a batch"
    assert len(kinds) > 3
    for reason, address in kinds.items():
        browser.get(address)
        shown(browser, "#settle")
        unfold("details")
        yield f"settle: {reason}"
    press(browser, Keys.F2)
    yield "the whole sheet"
    press(browser, Keys.F2)
    browser.execute_script(
        "for (const field of document.querySelectorAll('#settle input[data-field]')) field.value = 'R99.99.99'"
    )
    submit("#settle")
    yield "settle with mistakes"
    browser.delete_cookie("csrftoken")
    browser.execute_script("document.querySelector('#settle [name=csrfmiddlewaretoken]').value = 'x'")
    submit("#settle")
    yield "an old form"
