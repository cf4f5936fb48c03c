"""Readers of characters: PP-OCRv6 through onnxruntime, and Tesseract behind the same port.

Model files come inside the installed `rapidocr` package and are pinned by digest, so that a new package never changes
readings unseen. Preparing a zone (seals, rules, lines) is `ingest.sheet`'s, the meaning of what was read
`ingest.items`'s.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from core.errors import ToolMissing
from ingest.port import Pixels, TextReader

RECOGNITION_MODEL = ("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884")
DETECTION_MODEL = ("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f")

_HEIGHT = 48
_WIDEST = 3200
_LEAST = 1e-6
_RIVALS = 12
"""How many rivals, and how faint: the signs by which `ingest.items` tells 髙 from 高 lie far below one per cent."""


@dataclass(frozen=True)
class ReadCharacter:
    """One character as read: its probability, and the other characters that had some, likeliest first."""

    text: str
    probability: float
    rivals: tuple[tuple[str, float], ...] = ()


@runtime_checkable
class CharacterReader(Protocol):
    """A reader that can say how sure it is of every character."""

    name: str

    def read(self, line: Pixels) -> tuple[str, float]:
        """As `TextReader.read`."""
        ...

    def characters(self, line: Pixels) -> tuple[ReadCharacter, ...]:
        """The characters of one line, in order."""
        ...


def open_model(model: tuple[str, str]) -> Any:
    """An onnxruntime session, one thread, on a pinned model file of the installed `rapidocr` package.

    Raises `ToolMissing`, code `model.missing` or `model.changed`.
    """
    name, digest = model
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing() from error
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise _missing()
    try:
        content = (Path(spec.origin).parent / "models" / name).read_bytes()
    except OSError as error:
        raise _missing() from error
    return _session(onnxruntime, content, digest)


def _session(onnxruntime: Any, content: bytes, digest: str) -> Any:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ToolMissing(
            "文字認識モデルが、検証済みのものと異なります。依存パッケージをロックファイルのとおりに入れ直してください。",
            "The character model is not the verified one. Reinstall the dependencies exactly as the lock file lists.",
            code="model.changed",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Lines differ in width: without this the arena keeps one buffer for every width ever seen.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _missing() -> ToolMissing:
    return ToolMissing(
        "文字認識モデルがありません。パッケージ rapidocr と onnxruntime を、ロックファイルのとおりに入れてください。",
        "The character model is missing. Install the packages rapidocr and onnxruntime as the lock file lists them.",
        code="model.missing",
    )


class PaddleReader:
    """PP-OCRv6 (small) recognition. One session, one thread; safe to use from one thread at a time.

    Raises `ToolMissing` (`model.missing`, `model.changed`) when it is made.
    """

    name = "ppocrv6"

    def __init__(self) -> None:
        self._session = open_model(RECOGNITION_MODEL)
        listed = self._session.get_modelmeta().custom_metadata_map["character"].split("\n")
        if listed[-1] == "":
            listed.pop()
        # Class 0 is CTC's blank, the last class is the space.
        self._alphabet = ["", *listed, " "]
        self._allowed = np.array([_japanese(each) for each in self._alphabet])
        self._input = self._session.get_inputs()[0].name

    def alphabet(self) -> frozenset[str]:
        """Every character this reader can ever give."""
        return frozenset(each for each, allowed in zip(self._alphabet, self._allowed, strict=True) if allowed and each)

    def read(self, line: Pixels) -> tuple[str, float]:
        """Text of a line trimmed to its ink, and the mean of the characters' probabilities (0.0 for no characters)."""
        return text_of(self.characters(line))

    def characters(self, line: Pixels) -> tuple[ReadCharacter, ...]:
        """The characters of one line, best path, with rivals down to one in a million, at most 12."""
        seen = self._session.run(None, {self._input: _prepared(line)})[0][0]
        scores = seen * self._allowed
        scores /= scores.sum(axis=1, keepdims=True) + 1e-9
        best = scores.argmax(axis=1)
        found = []
        step = 0
        while step < len(best):
            end = step
            while end < len(best) and best[end] == best[step]:
                end += 1
            if best[step] != 0:
                # The first step of a run, as the reference decoder takes it: measured thresholds refer to it.
                found.append(self._character(int(best[step]), float(scores[step, best[step]]), seen[step]))
            step = end
        return tuple(found)

    def _character(self, best: int, probability: float, seen: NDArray[np.float32]) -> ReadCharacter:
        # Rivals are those of the model as it is, Chinese ones too: they are signs, never values.
        others = [int(i) for i in np.flatnonzero(seen >= _LEAST) if i not in (0, best)]
        others.sort(key=lambda i: -seen[i])
        rivals = tuple((self._alphabet[i], float(seen[i])) for i in others[:_RIVALS])
        return ReadCharacter(self._alphabet[best], probability, rivals)


def _japanese(character: str) -> bool:
    """Whether Japanese offices write it: Windows-31J, and ticks. The model also knows Chinese forms (產 稅 边) and
    prefers them at times."""
    if character in "✓✔☑":
        return True
    try:
        character.encode("cp932")
    except UnicodeEncodeError:
        return False
    return True


def text_of(characters: tuple[ReadCharacter, ...]) -> tuple[str, float]:
    """Text and mean probability of read characters."""
    if not characters:
        return "", 0.0
    return "".join(each.text for each in characters), sum(each.probability for each in characters) / len(characters)


def _prepared(line: Pixels) -> NDArray[np.float32]:
    """(1, 3, 48, width) in -1..1, BGR; width follows the line's shape, padded to a multiple of 8 with paper."""
    colour = line if line.ndim == 3 else cv2.cvtColor(line, cv2.COLOR_GRAY2BGR)
    height, width = colour.shape[:2]
    wide = min(_WIDEST, max(16, round(width * _HEIGHT / height)))
    way = cv2.INTER_AREA if height > _HEIGHT else cv2.INTER_LINEAR
    sized = cv2.resize(colour, (wide, _HEIGHT), interpolation=way).astype(np.float32) / 127.5 - 1.0
    padded = np.zeros((1, 3, _HEIGHT, max(48, -(-wide // 8) * 8)), np.float32)
    padded[0, :, :, :wide] = sized.transpose(2, 0, 1)
    return padded


class TesseractReader:
    """Tesseract, one process a line: the second opinion, and for sites that require it.

    Raises `ToolMissing` (`tool.missing`) when the program or its Japanese data is absent.
    """

    name = "tesseract"

    def __init__(self) -> None:
        try:
            import pytesseract

            languages = pytesseract.get_languages(config="")
        except (ImportError, OSError, RuntimeError) as error:
            raise _tesseract_missing() from error
        if "jpn" not in languages:
            raise _tesseract_missing()
        self._engine = pytesseract

    def read(self, line: Pixels) -> tuple[str, float]:
        """Text of a line trimmed to its ink; the mean of the words' confidences, weighted by length."""
        gray = line if line.ndim == 2 else cv2.cvtColor(line, cv2.COLOR_BGR2GRAY)
        margin = max(10, gray.shape[0] // 4)
        framed = cv2.copyMakeBorder(gray, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(255,))
        try:
            found = self._engine.image_to_data(
                framed, lang="jpn", config="--psm 7", output_type=self._engine.Output.DICT
            )
        except (OSError, RuntimeError) as error:
            raise _tesseract_missing() from error
        words = [(text, float(conf)) for text, conf in zip(found["text"], found["conf"], strict=True) if text.strip()]
        length = sum(len(text) for text, _ in words)
        if not length:
            return "", 0.0
        mean = sum(len(text) * max(0.0, conf) for text, conf in words) / length / 100
        return "".join(text for text, _ in words), min(1.0, mean)


def _tesseract_missing() -> ToolMissing:
    return ToolMissing(
        "Tesseract または日本語データがありません。tesseract-ocr と tesseract-ocr-jpn をインストールしてください。",
        "Tesseract or its Japanese data is missing. Install tesseract-ocr and tesseract-ocr-jpn.",
    )


def available_readers() -> tuple[list[TextReader], list[str]]:
    """Readers this machine has, the best first, and a line in Japanese for each that was left out, saying what to
    do."""
    found: list[TextReader] = []
    left_out = []
    for kind in (PaddleReader, TesseractReader):
        try:
            found.append(kind())
        except ToolMissing as error:
            left_out.append(f"{kind.name}: {error.ja}")
    return found, left_out
