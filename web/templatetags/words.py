"""Tags that put words, labels, days and values into templates, in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from django import template
from django.template import Context
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString

from core.clock import TOKYO
from core.eras import wareki
from records.find import Found
from records.ledger import Definition, Item
from records.values import shown
from web import assets, words

register = template.Library()


@register.simple_tag(takes_context=True)
def word(context: Context, key: str, **parts: object) -> SafeString:
    """`{% word "search.total" count=12 %}`: words of the interface."""
    return conditional_escape(words.word(key, context["language"], **parts))


@register.simple_tag(takes_context=True)
def label(context: Context, value: Mapping[str, str] | None) -> SafeString:
    """`{% label ledger.name %}`: a label of a definition, in Japanese where the other language is missing."""
    value = value or {}
    return conditional_escape(value.get(context["language"]) or value.get("ja", ""))


@register.simple_tag(takes_context=True)
def form_title(context: Context, definition: Definition, form: str) -> SafeString:
    """`{% form_title definition form.id %}`: what people call a form."""
    return label(context, definition.form_titles.get(form) or {"ja": form})


@register.simple_tag(takes_context=True)
def reason(context: Context, code: str) -> SafeString:
    """A sheet's or item's reason in words."""
    return conditional_escape(words.reason(code, context["language"]))


@register.simple_tag(takes_context=True)
def moment(context: Context, at: str) -> SafeString:
    """A time of the journal as Japanese office time: 2026年11月21日 16:05."""
    if not at:
        return SafeString("")
    then = datetime.fromisoformat(at).astimezone(TOKYO)
    text = then.strftime("%Y-%m-%d %H:%M")
    if context["language"] == "ja":
        text = f"{then.year}年{then.month}月{then.day}日 {then:%H:%M}"
    return format_html('<time datetime="{}">{}</time>', at, text)


@register.simple_tag(takes_context=True)
def day(context: Context, iso: str) -> SafeString:
    """A day in its era with the ISO day beside it; in English the other way round."""
    if not iso:
        return SafeString("")
    era = wareki(date.fromisoformat(iso))
    first, second = (iso, era) if context["language"] == "en" else (era, iso)
    return format_html('<time datetime="{}">{} <span class="beside">{}</span></time>', iso, first, second)


@register.simple_tag(takes_context=True)
def value(context: Context, item: Item, text: str) -> SafeString:
    """A value as people read it: dates with era and ISO day, yes and no in words, lines kept."""
    if item.type == "date" and text and shown(item, text) != text:
        return day(context, text)
    if item.type == "yes_no" and text in ("yes", "no"):
        return conditional_escape(words.word(text, context["language"]))
    return conditional_escape(text)


@register.simple_tag(takes_context=True)
def fiscal_year(context: Context, year: str) -> SafeString:
    """A fiscal year (年度): 令和7年度, FY 2025."""
    return conditional_escape(year_name(year, context["language"]))


@register.simple_tag
def asset(name: str) -> str:
    """Address of one of our own static files, with its digest in it."""
    return reverse("asset", args=[assets.digest(name), name])


@register.filter
def titled(hit: Found) -> list[tuple[Item, str]]:
    """The title items of a hit that say something."""
    found = ((hit.definition.item(name), text) for name, text in hit.title.items())
    return [(item, text) for item, text in found if item is not None and text]


@register.filter
def label_text(item: Item, language: str) -> str:
    """An item's label, for the argument of another tag."""
    return item.label.get(language) or item.label["ja"]


@register.filter
def in_bytes(size: int) -> str:
    """A length for people: 512 B, 3.4 MB, 32 MB."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, (size.bit_length() - 1) // 10))
    return f"{size / 1024**power:.1f} {units[power]}".replace(".0 ", " ")


@register.filter
def key(code: str, kind: str) -> str:
    """`{% word state|key:"state" %}`: the key of the words for a code of one kind."""
    return f"{kind}.{code}"


def year_name(year: str, language: str) -> str:
    """A fiscal year in words, by the era that its middle (1 October) lies in: 2019 is 令和元年度, 1988 昭和63年度."""
    if not year.isdigit():
        return year
    era = wareki(date(int(year), 10, 1)).split("年")[0]
    return words.word("year", language, era=era, year=year)
