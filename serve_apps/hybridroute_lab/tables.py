"""Reads people's label files: CSV or JSONL in, checked columns out, one clear message for anything wrong.

File names are read for messages and for the category baseline; they never reach a score.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "LabelledTexts", "Outcomes", "read_labelled_texts", "read_outcomes"]

CONTAMINATED_FILE = "contaminated_prompts.jsonl"
_CONTAMINATED_KEYS = ("eval_prompt", "prompt")
_TRUE = frozenset({"true", "yes", "right", "correct"})
_FALSE = frozenset({"false", "no", "wrong", "incorrect"})
MAX_ROWS = 1_000_000
"""Rows are kept in memory, and no promise gets better by more of them than calibration uses."""
_MAX_FIELD_BYTES = min(sys.maxsize, 2**31 - 1)

Row = Mapping[str, object]


class DataError(ValueError):
    """The data cannot be used. The message names file, row and column, and what would be right."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Prompts with what the small and the large model scored on them."""

    prompts: tuple[str, ...]
    weak: NDArray[np.float64]
    """The small model's score, 0 to 1; 1 is right."""
    strong: NDArray[np.float64]
    """The large model's score, 0 to 1."""
    categories: tuple[str, ...]
    """What a row's category is said to be; for baselines only."""
    labels: tuple[str, ...] | None = None
    """Names for the scope gate, where the file has a column for them."""
    contaminated: int = 0
    """Rows dropped because they were listed beside the data."""
    margins: NDArray[np.float64] | None = None
    """How sure the small model was of its answer, 0 to 1; infinite where nothing is said of a row."""

    @property
    def graded(self) -> bool:
        """Tell whether any score lies strictly between 0 and 1."""
        both = np.concatenate([self.weak, self.strong])
        return bool(np.any((both > 0.0) & (both < 1.0)))

    @property
    def regret(self) -> NDArray[np.float64]:
        """What the large model would have gained on each row, and never less than nothing."""
        return np.maximum(0.0, self.strong - self.weak)

    def take(self, rows: NDArray[np.intp]) -> "Outcomes":
        """Return some rows, in the given order."""
        return Outcomes(
            tuple(self.prompts[row] for row in rows),
            self.weak[rows],
            self.strong[rows],
            tuple(self.categories[row] for row in rows),
            None if self.labels is None else tuple(self.labels[row] for row in rows),
            self.contaminated,
            None if self.margins is None else self.margins[rows],
        )


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """In-domain texts with a label each."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def take(self, rows: NDArray[np.intp]) -> "LabelledTexts":
        """Return some rows, in the given order."""
        return LabelledTexts(tuple(self.texts[row] for row in rows), tuple(self.labels[row] for row in rows))


def read_outcomes(
    paths: Sequence[Path],
    *,
    prompt_column: str,
    weak_column: str,
    strong_column: str,
    label_column: str | None = None,
    category_column: str | None = None,
    margin_column: str | None = None,
) -> Outcomes:
    """Read files, or every CSV and JSONL file of a folder, into one table.

    Rows listed in a `contaminated_prompts.jsonl` beside the data are dropped and counted. Raises `DataError`.
    """
    prompts: list[str] = []
    weak: list[float] = []
    strong: list[float] = []
    categories: list[str] = []
    labels: list[str] = []
    margins: list[float] = []
    dropped = 0
    named = (prompt_column, weak_column, strong_column, label_column, category_column, margin_column)
    columns = [column for column in named if column]
    for path in _expand(paths):
        contaminated = _read_contaminated(path.parent / CONTAMINATED_FILE)
        for where, row in _read_rows(path, columns):
            prompt = _text(row[prompt_column], where, prompt_column)
            if prompt in contaminated:
                dropped += 1
                continue
            _check_count(len(prompts), where)
            prompts.append(prompt)
            weak.append(_score(row[weak_column], where, weak_column))
            strong.append(_score(row[strong_column], where, strong_column))
            categories.append(str(row[category_column]) if category_column else path.stem)
            if label_column:
                labels.append(_text(row[label_column], where, label_column))
            if margin_column:
                margins.append(_margin(row[margin_column], where, margin_column))
    if not prompts:
        raise DataError(f"no rows in {', '.join(str(path) for path in paths)}")
    return Outcomes(
        tuple(prompts),
        np.array(weak),
        np.array(strong),
        tuple(categories),
        tuple(labels) if label_column else None,
        dropped,
        np.array(margins) if margin_column else None,
    )


def read_labelled_texts(
    paths: Sequence[Path], *, text_column: str = "text", label_column: str = "label"
) -> LabelledTexts:
    """Read in-domain texts. Raises `DataError`."""
    texts: list[str] = []
    labels: list[str] = []
    for path in _expand(paths):
        for where, row in _read_rows(path, [text_column, label_column]):
            _check_count(len(texts), where)
            texts.append(_text(row[text_column], where, text_column))
            labels.append(_text(row[label_column], where, label_column))
    if not texts:
        raise DataError(f"no rows in {', '.join(str(path) for path in paths)}")
    return LabelledTexts(tuple(texts), tuple(labels))


def _expand(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                item
                for item in path.iterdir()
                if item.suffix in (".csv", ".jsonl") and item.name != CONTAMINATED_FILE
            )
            if not found:
                raise DataError(f"{path}: the folder holds no .csv or .jsonl file")
            files.extend(found)
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


def _read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    is_jsonl = path.suffix == ".jsonl"
    lines = _read_lines(path, newline="\n" if is_jsonl else "")
    for number, row in _jsonl_rows(path, lines) if is_jsonl else _csv_rows(path, lines):
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise DataError(
                f"{path}, row {number}: no column {', '.join(repr(name) for name in missing)}; "
                f"the row has {', '.join(repr(name) for name in row if name) or 'nothing'}"
            )
        yield f"{path}, row {number}", row


def _read_lines(path: Path, newline: str) -> Iterator[str]:
    """Yield lines with their ends, one at a time: of a large file only its rows are ever in memory."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {_first_foreign_byte(path)} is not UTF-8; "
            "convert the file, for example with `iconv -t utf-8`"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _first_foreign_byte(path: Path) -> int:
    """Return where a file stops being UTF-8; a decoder that reads piece by piece does not know."""
    try:
        path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _csv_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    previous = csv.field_size_limit(_MAX_FIELD_BYTES)
    try:
        yield from enumerate(csv.DictReader(lines), start=1)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    finally:
        csv.field_size_limit(previous)


def _jsonl_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, row {number}: not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: a row must be a JSON object")
        yield number, row


def _read_contaminated(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    listed = []
    for number, row in _jsonl_rows(path, _read_lines(path, newline="\n")):
        prompt = next((row[key] for key in _CONTAMINATED_KEYS if key in row), None)
        if prompt is None:
            raise DataError(
                f"{path}, row {number}: no {' or '.join(repr(key) for key in _CONTAMINATED_KEYS)}"
            )
        listed.append(str(prompt))
    return frozenset(listed)


def _check_count(known: int, where: str) -> None:
    if known >= MAX_ROWS:
        raise DataError(
            f"{where}: more than {MAX_ROWS:,} rows; draw a random sample, of which 100,000 are used at most"
        )


def _text(value: object, where: str, column: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: column {column!r} must be text")
    if not value.strip():
        raise DataError(f"{where}: column {column!r} is empty; drop the row or give it a text")
    return value


def _score(value: object, where: str, column: str) -> float:
    if isinstance(value, bool):
        return float(value)
    word = str(value).strip().lower()
    if word in _TRUE:
        return 1.0
    if word in _FALSE:
        return 0.0
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if not 0.0 <= number <= 1.0:
        raise DataError(
            f"{where}: column {column!r} is {value!r}; an outcome is true, false or a number 0 to 1"
        )
    return number


def _margin(value: object, where: str, column: str) -> float:
    if str(value).strip() == "":
        return float("inf")
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    if not 0.0 <= number <= 1.0:
        raise DataError(
            f"{where}: column {column!r} is {value!r}; a margin is a number 0 to 1, or empty where there is none"
        )
    return number
