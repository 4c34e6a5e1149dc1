"""Broken files, and the exact words that a person gets for each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridroute_cli.documents import cluster_only_fields, load_route, parse_route
from hybridroute_cli.problems import InvalidDocumentError, Problem, format_location
from support.routes import ROUTE_YAML, route_of

BROKEN = Path(__file__).parents[2] / "data" / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
SECRET = "hunter2"


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_route(text, "route.yaml")
    return caught.value.problems


def golden_messages() -> dict[str, list[str]]:
    messages: dict[str, list[str]] = {}
    for line in (BROKEN / "messages.txt").read_text().splitlines():
        messages.setdefault(line.split(":")[0], []).append(line)
    return messages


def test_the_table_has_a_row_for_each_broken_file() -> None:
    assert set(golden_messages()) == {file.name for file in FILES}
    assert len(FILES) >= 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_broken_file_gets_exactly_these_messages(file: Path) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        load_route(file)
    told = [str(problem).replace(f"{file}", file.name, 1) for problem in caught.value.problems]
    assert told == golden_messages()[file.name]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_message_repeats_a_secret(file: Path) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        load_route(file)
    assert SECRET not in "".join(f"{problem!r}" for problem in caught.value.problems)


def test_some_broken_files_do_hold_a_secret() -> None:
    assert sum(SECRET.encode() in file.read_bytes() for file in FILES) >= 4


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_are_valid(file: Path) -> None:
    assert load_route(file).metadata.name


def test_problems_come_in_the_order_of_lines_with_the_field_meaning_as_hint() -> None:
    text = ROUTE_YAML.replace("spec:\n", "spec:\n  limits: {maxBodyMiB: 0}\n  mode: 1\n")
    problems = problems_of(text)
    assert [(problem.line, problem.path) for problem in problems] == [
        (6, "spec.limits.maxBodyMiB"),
        (7, "spec.mode"),
    ]
    assert "Range 1 to 256; default 16" in problems[0].hint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist: check the path"),
        (lambda path: path.mkdir(), "is a directory: name the file in it"),
        (
            lambda path: path.write_bytes(b"#" * (4 * 1024 * 1024 + 1)),
            "is larger than 4 MiB, so it is no HybridRoute: check the path",
        ),
    ],
    ids=["missing", "directory", "too large"],
)
def test_what_is_no_readable_file(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "route.yaml"
    make(path)
    with pytest.raises(InvalidDocumentError) as caught:
        load_route(path)
    assert str(caught.value) == f"{path}: {message}"


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "route.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + ROUTE_YAML.replace("\n", "\r\n").encode())
    assert load_route(path) == route_of()


def test_aliases_that_multiply_end_in_a_problem_and_not_in_a_full_memory() -> None:
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    [problem] = problems_of("\n".join(lines))
    assert problem.message.startswith("holds more values than any HybridRoute")


def test_an_alias_that_contains_itself_hides_no_other_problem() -> None:
    text = ROUTE_YAML.replace("spec:\n", "  labels: &a {x: *a}\nspec:\n  mode: None\n")
    assert [problem.path for problem in problems_of(text)] == ["metadata.labels.x", "spec.mode"]


def test_deep_brackets_end_in_a_problem() -> None:
    assert "nested too deeply" in problems_of("[" * 10_000)[0].message


def test_anchors_that_are_used_once_more_are_read() -> None:
    text = ROUTE_YAML.replace("spec:\n", "spec:\n  records: {maxAge: &week 168h}\n")
    text += "  routing: {scaling: {upscaleDelay: 1m, downscaleDelay: 1h}}\n"
    assert parse_route(text, "route.yaml").spec.records.max_age.days == 7


def test_nulls_that_other_tools_write_into_metadata_and_status_are_no_problem() -> None:
    text = (
        ROUTE_YAML.replace("metadata:\n", "metadata:\n  creationTimestamp: null\n") + "status: {url: null}\n"
    )
    assert parse_route(text, "route.yaml").metadata.name == "support"


def test_cluster_only_fields_are_those_that_were_given() -> None:
    assert cluster_only_fields(route_of()) == []
    route = route_of(
        {
            "spec": {
                "slm": {
                    "resources": {"gpus": 1, "nodeSelector": {"gpu": "a"}, "tolerations": [{"key": "gpu"}]},
                    "pricing": {"gpuHourUSD": "0.80"},
                }
            }
        }
    )
    assert cluster_only_fields(route) == [
        "spec.slm.resources.nodeSelector",
        "spec.slm.resources.tolerations",
    ]


def test_locations_read_as_a_person_writes_them() -> None:
    location = ("spec", "llm", "upstreams", 0, "headers", "X-Team")
    assert format_location(location) == 'spec.llm.upstreams[0].headers["X-Team"]'
