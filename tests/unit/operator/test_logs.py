"""Log lines: one JSON object a line, whatever the message holds."""

import json
import logging
import sys

from hybridroute_operator.logs import JsonFormatter


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(
        "hybridroute_operator.queue", logging.WARNING, __file__, 1, message, arguments, None
    )


def test_a_line_is_one_object_with_time_level_logger_and_message() -> None:
    line = JsonFormatter().format(
        record("round failed route=%s reason=%s", "shop/support", 'two\nlines "quoted"')
    )
    assert "\n" not in line
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "warning",
        "logger": "hybridroute_operator.queue",
        "message": 'round failed route=shop/support reason=two\nlines "quoted"',
    }


def test_an_exception_is_in_the_same_line() -> None:
    try:
        raise ValueError("of ours")
    except ValueError:
        failed = record("round failed")
        failed.exc_info = sys.exc_info()
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: of ours")
