"""Forms and filled sheets drawn for tests, and the damage that scanning does to them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ingest.form import Form, Zone
from ingest.port import Pixels
from tests.machine import need_file

FONTS = {
    "mincho": ("/usr/share/fonts/opentype/ipaexfont-mincho/ipaexm.ttf", 0),
    "gothic": ("/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf", 0),
    "sans": ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 0),
    "serif": ("/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc", 0),
}
MARKS = ((15.0, 15.0), (195.0, 15.0), (195.0, 282.0), (15.0, 282.0))


def font(name: str, millimetres: float, dpi: float) -> ImageFont.FreeTypeFont:
    path, index = FONTS[name]
    need_file(path, "fonts-ipaexfont-mincho fonts-ipaexfont-gothic fonts-noto-cjk")
    return ImageFont.truetype(path, round(millimetres / 25.4 * dpi), index=index)


@dataclass(frozen=True)
class Drawn:
    """A form with its captions: `title`, and per zone id the printed caption; `above` puts captions over the boxes."""

    form: Form
    title: str
    captions: dict[str, str]
    above: bool = False


_LEDGER = (
    ("id", "number", "整理番号", ()),
    ("name", "name", "氏名", ()),
    ("kana", "kana", "フリガナ", ()),
    ("born", "date", "生年月日", ()),
    ("sex", "choice", "性別", ("男", "女")),
    ("head", "name", "世帯主", ()),
    ("relation", "choice", "続柄", ("本人", "妻", "夫", "長男", "長女", "次男", "父", "母")),
    ("address", "address", "住所", ()),
    ("phone", "phone", "電話番号", ()),
    ("since", "date", "受付年月日", ()),
    ("office", "text", "担当課", ()),
    ("note", "text", "備考", ()),
)


def ledger_form(form_id: str = "f-1", marks: bool = True) -> Drawn:
    """Twelve zones, captions to the left."""
    zones, captions = [], {}
    y = 45.0
    for item, kind, caption, choices in _LEDGER:
        height = 18.0 if item == "address" else 11.0
        zones.append(Zone(item, kind, 60.0, y, 125.0 if item in ("address", "note") else 90.0, height, choices))
        captions[item] = caption
        y += height + 6.0
    return Drawn(Form(form_id, 210.0, 297.0, tuple(zones), MARKS if marks else ()), "住民台帳カード", captions)


def other_form(form_id: str = "f-2", marks: bool = True) -> Drawn:
    """The same marks, another layout: captions above, two columns."""
    zones, captions = [], {}
    names = ["申請番号", "申請者", "代理人", "申請日", "許可日", "期限", "施設名", "所在地", "面積", "用途"]
    for n, caption in enumerate(names):
        zones.append(Zone(f"z{n}", "text", 25.0 + 85.0 * (n % 2), 55.0 + 26.0 * (n // 2), 72.0, 12.0))
        captions[f"z{n}"] = caption
    return Drawn(
        Form(form_id, 210.0, 297.0, tuple(zones), MARKS if marks else ()), "施設使用許可申請書", captions, above=True
    )


def sister_form(form_id: str = "f-3") -> Drawn:
    """The ledger's layout to the millimetre, under another title and other captions."""
    base = ledger_form(form_id)
    others = [
        "伝票番号",
        "法人名",
        "略称",
        "設立日",
        "区分",
        "代表者",
        "業種",
        "所在地",
        "連絡先",
        "登録日",
        "所管",
        "摘要",
    ]
    return replace(base, title="法人登録原票", captions=dict(zip(base.captions, others, strict=True)))


VALUES = {
    "id": "20240315-0042",
    "name": "山田 太郎",
    "kana": "ヤマダ タロウ",
    "born": "昭和52年3月14日",
    "sex": "男",
    "head": "山田 花子",
    "relation": "長男",
    "address": "東京都千代田区霞が関二丁目1番2号\n中央合同庁舎 第2号館 305号室",
    "phone": "03-5253-5111",
    "since": "令和6年4月1日",
    "office": "市民課窓口係",
    "note": "転入届と同時に受理した",
}


def draw(
    drawn: Drawn, values: dict[str, str] | None = None, dpi: float = 300.0, face: str = "mincho", seal: str = ""
) -> Pixels:
    """The sheet in BGR at `dpi`, upright: blank without `values`; a red seal over the zone named `seal`."""
    scale = dpi / 25.4
    image = Image.new("RGB", (round(drawn.form.width * scale), round(drawn.form.height * scale)), "white")
    pen = ImageDraw.Draw(image)
    pen.text((70 * scale, 22 * scale), drawn.title, fill="black", font=font("gothic", 7, dpi))
    for x, y in drawn.form.marks:
        pen.rectangle(
            [(x - 2.5) * scale, (y - 2.5) * scale, (x + 2.5) * scale - 1, (y + 2.5) * scale - 1], fill="black"
        )
    for zone in drawn.form.zones:
        x0, y0, x1, y1 = (v * scale for v in (zone.x, zone.y, zone.x + zone.width, zone.y + zone.height))
        pen.rectangle([x0, y0, x1, y1], outline="black", width=max(1, round(0.3 * scale)))
        caption = drawn.captions[zone.item]
        at = (
            (zone.x * scale, (zone.y - 6) * scale)
            if drawn.above
            else (25 * scale, (zone.y + zone.height / 2 - 2.2) * scale)
        )
        pen.text(at, caption, fill="black", font=font("gothic", 4, dpi))
        if values and values.get(zone.item):
            lines = values[zone.item].split("\n")
            size = 4.5
            top = zone.y + (zone.height - len(lines) * size * 1.4) / 2
            for n, line in enumerate(lines):
                pen.text(
                    ((zone.x + 4) * scale, (top + n * size * 1.4) * scale),
                    line,
                    fill=(30, 30, 30),
                    font=font(face, size, dpi),
                )
        if seal == zone.item:
            layer = Image.new("RGB", image.size, "white")
            stamp = ImageDraw.Draw(layer)
            cx, cy, r = (zone.x + 16) * scale, (zone.y + zone.height / 2) * scale, 6 * scale
            stamp.ellipse([cx - r, cy - r, cx + r, cy + r], outline=(215, 40, 40), width=round(0.8 * scale))
            stamp.text((cx - 4 * scale, cy - 2.5 * scale), "山田", fill=(215, 40, 40), font=font("mincho", 4, dpi))
            image = Image.fromarray(np.minimum(np.asarray(image), np.asarray(layer)))
            pen = ImageDraw.Draw(image)
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def blank_image(drawn: Drawn) -> Pixels:
    """The blank form, grey, 150 dpi."""
    return np.asarray(cv2.cvtColor(draw(drawn, None, 150.0), cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def placed(
    sheet: Pixels, degrees: float, shift: tuple[float, float] = (0, 0), stretch: float = 1.0
) -> tuple[Pixels, np.ndarray]:
    """The sheet as a crooked feed scans it (same size, white around), and the 3x3 matrix sheet pixels -> page
    pixels."""
    height, width = sheet.shape[:2]
    matrix = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, stretch), [0, 0, 1]])
    matrix[:2, 2] += shift
    page = cv2.warpAffine(sheet, matrix[:2], (width, height), flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
    return page, matrix


def worn(page: Pixels, blur: float = 0.8, noise: float = 6.0, jpeg: int = 75, seed: int = 1) -> Pixels:
    """Blur, noise and JPEG, as a scanner leaves them."""
    source = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(page, (0, 0), blur) if blur else page
    if noise:
        grain = source.normal(0, noise, soft.shape[:2]).astype(np.float32)
        soft = np.clip(soft + (grain if soft.ndim == 2 else grain[:, :, None]), 0, 255).astype(np.uint8)
    if jpeg:
        soft = cv2.imdecode(cv2.imencode(".jpg", soft, [cv2.IMWRITE_JPEG_QUALITY, jpeg])[1], cv2.IMREAD_UNCHANGED)
    return np.asarray(soft, dtype=np.uint8)


def corner_error(matrix: np.ndarray, truth: np.ndarray, drawn: Drawn, dpi: float) -> float:
    """Worst error, in pixels at READ_DPI, of zone corners: `truth` maps sheet pixels at `dpi` to page pixels."""
    from ingest.geometry import READ_DPI

    worst = 0.0
    for zone in drawn.form.zones:
        for x in (zone.x, zone.x + zone.width):
            for y in (zone.y, zone.y + zone.height):
                sheet = np.array([x * dpi / 25.4 - 0.5, y * dpi / 25.4 - 0.5, 1.0])
                got = matrix @ truth @ sheet
                want = np.array([x, y]) * READ_DPI / 25.4 - 0.5
                worst = max(worst, float(np.abs(got[:2] / got[2] - want).max()))
    return worst


def random_values(seed: int) -> dict[str, str]:
    """Made-up contents for `ledger_form`; nobody's data."""
    pick = random.Random(seed)
    family, family_kana = pick.choice(
        [
            ("佐藤", "サトウ"),
            ("髙橋", "タカハシ"),
            ("渡邉", "ワタナベ"),
            ("齋藤", "サイトウ"),
            ("峠", "トウゲ"),
            ("辻", "ツジ"),
            ("畑中", "ハタナカ"),
            ("伊集院", "イジュウイン"),
        ]
    )
    given, given_kana = pick.choice(
        [
            ("一郎", "イチロウ"),
            ("美咲", "ミサキ"),
            ("健", "ケン"),
            ("陽菜", "ヒナ"),
            ("ゆかり", "ユカリ"),
            ("龍之介", "リュウノスケ"),
        ]
    )
    era = pick.choice(["昭和", "平成", "令和"])
    year = pick.randint(2, 7) if era == "令和" else pick.randint(2, 30)
    town = pick.choice(["港区芝公園四丁目", "札幌市中央区北1条西2丁目", "福岡市博多区博多駅前3丁目", "金沢市丸の内1番"])
    house = pick.choice(["さくらハイツ", "第一マンション", "県営住宅"])
    return {
        "id": f"{pick.randint(0, 99999999):08d}-{pick.randint(0, 9999):04d}",
        "name": f"{family} {given}",
        "kana": f"{family_kana} {given_kana}",
        "born": f"{era}{year}年{pick.randint(1, 12)}月{pick.randint(1, 28)}日",
        "sex": pick.choice("男女"),
        "head": f"{family} 正雄",
        "relation": pick.choice(["本人", "妻", "夫", "長男", "長女", "次男", "父", "母"]),
        "address": f"{town}{pick.randint(1, 30)}番{pick.randint(1, 20)}号\n{house} {pick.randint(101, 909)}号室",
        "phone": f"0{pick.randint(3, 9)}-{pick.randint(1000, 9999)}-{pick.randint(1000, 9999)}",
        "since": f"令和{pick.randint(2, 7)}年{pick.randint(1, 12)}月{pick.randint(1, 28)}日",
        "office": pick.choice(["市民課窓口係", "税務課資産税係", "福祉課保護係"]),
        "note": pick.choice(["転入届と同時に受理した", "職権により修正", "原本は本庁で保管する"]),
    }
