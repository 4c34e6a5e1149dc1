"""Label files: what is read, and one clear message for everything that cannot be."""

import json
from pathlib import Path

import pytest

from hybridroute_lab import tables
from hybridroute_lab.tables import DataError, Outcomes, read_labelled_texts, read_outcomes


def read(*paths: Path, **columns: str) -> Outcomes:
    names = {"prompt_column": "prompt", "weak_column": "small", "strong_column": "large"} | columns
    return read_outcomes(list(paths), **names)  # type: ignore[arg-type]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_csv_with_words_numbers_quotes_and_line_breaks(tmp_path: Path) -> None:
    rows = read(
        write(tmp_path / "a.csv", 'prompt,small,large\n"one, ""two""\nthree\u2028four",True,0.5\nfive,no,1\n')
    )
    assert rows.prompts == ('one, "two"\nthree\u2028four', "five")
    assert rows.weak.tolist() == [1.0, 0.0]
    assert rows.strong.tolist() == [0.5, 1.0]
    assert rows.graded
    assert rows.regret.tolist() == [0.0, 1.0]
    assert rows.categories == ("a", "a")


def test_jsonl_with_booleans_and_blank_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": "x", "small": True, "large": False, "topic": "t", "extra": [1]}), ""]
    rows = read(write(tmp_path / "a.jsonl", "\n".join(lines)), label_column="topic", category_column="topic")
    assert rows.weak.tolist() == [1.0]
    assert rows.labels == rows.categories == ("t",)
    assert not rows.graded


def test_a_folder_is_read_in_order_and_listed_rows_are_dropped(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", "prompt,small,large\nbad,1,1\ngood,0,1\n")
    write(tmp_path / "a.csv", "prompt,small,large\nfirst,1,1\n")
    write(tmp_path / "contaminated_prompts.jsonl", json.dumps({"eval_prompt": "bad", "train_prompt": "good"}))
    write(tmp_path / "README.md", "not data")
    rows = read(tmp_path)
    assert rows.prompts == ("first", "good")
    assert rows.contaminated == 1
    assert rows.categories == ("a", "b")


def test_taking_rows_keeps_them_together(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", "prompt,small,large\na,1,0\nb,0,1\n"))
    taken = rows.take(__import__("numpy").array([1]))
    assert (taken.prompts, taken.weak.tolist(), taken.strong.tolist()) == (("b",), [0.0], [1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "question,small,large\nx,1,1\n",
            r"row 1: no column 'prompt'; the row has 'question', 'small', 'large'",
        ),
        ("prompt,small,large\nx,1,1\ny,1\n", r"row 2: no column 'large'"),
        (
            "prompt,small,large\nx,maybe,1\n",
            r"row 1: column 'small' is 'maybe'; an outcome is true, false or a number",
        ),
        ("prompt,small,large\nx,1.5,1\n", r"'1.5'"),
        ("prompt,small,large\nx,nan,1\n", r"'nan'"),
        ("prompt,small,large\n  ,1,1\n", r"row 1: column 'prompt' is empty; drop the row"),
        ("prompt,small,large\n", r"no rows in"),
        ("", r"no rows in"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.csv", text))


def test_other_encodings_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("prompt,small,large\ncafé,1,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 22 is not UTF-8; convert the file"):
        read(path)


def test_a_foreign_byte_far_into_a_file_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    before = b"prompt,small,large\n" + b"fine,1,1\n" * 20_000
    path.write_bytes(before + b"caf\xe9,1,1\n")
    with pytest.raises(DataError, match=f"byte {len(before) + 3} is not UTF-8"):
        read(path)


def test_too_many_rows_are_refused_at_the_first_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    path = write(tmp_path / "a.csv", "prompt,small,large\na,1,0\nb,0,1\nc,0,1\nd,no outcome\n")
    with pytest.raises(DataError, match=r"a\.csv, row 3: more than 2 rows; draw a random sample"):
        read(path)
    labelled = write(tmp_path / "b.csv", "text,label\na,x\nb,x\nc,x\n")
    with pytest.raises(DataError, match="row 3: more than 2 rows"):
        read_labelled_texts([labelled])


@pytest.mark.parametrize(("line", "message"), [("{", "row 1: not JSON"), ("[1]", "must be a JSON object")])
def test_broken_jsonl(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.jsonl", line))


def test_a_prompt_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'prompt' must be text"):
        read(write(tmp_path / "a.jsonl", json.dumps({"prompt": 3, "small": 1, "large": 1})))


def test_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"holds no \.csv or \.jsonl file"):
        read(tmp_path)


def test_labelled_texts(tmp_path: Path) -> None:
    rows = read_labelled_texts([write(tmp_path / "a.csv", "text,label\nhello,greeting\n")])
    assert (rows.texts, rows.labels) == (("hello",), ("greeting",))
    with pytest.raises(DataError, match="'label' is empty"):
        read_labelled_texts([write(tmp_path / "b.csv", "text,label\nhello,\n")])
