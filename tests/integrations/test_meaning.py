"""What messages of frameworks stand for."""

import pytest

from eventstore.events import InvocationLinked, MessageAdded
from eventstore.integrations.meaning import call_ended


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("a\nb", "a\nb"),
        ({"n": 1}, '{"n":1}'),
        ([{"text": "a"}, {"image": ""}, "b"], "a\nb"),
        ([{"json": {"n": 1}}], '[{"json":{"n":1}}]'),
        ([1, 2], "[1,2]"),
        (0, "0"),
        (2.5, "2.5"),
        (False, "false"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_message_of_an_answer_is_its_text_or_else_its_json(answer: object, said: str) -> None:
    message, ended = call_ended("c", "tool", answer)
    assert isinstance(message, MessageAdded)
    assert isinstance(ended, InvocationLinked)
    assert (message.content, ended.result, ended.success, ended.error) == (said, answer, True, None)


def test_the_error_of_a_call_is_one_line_of_what_is_given_or_else_of_the_message() -> None:
    ends = [list(call_ended("c", None, {"error": "x"}, success=False, error=one))[1] for one in ("bad\nline", None)]
    assert [one.error for one in ends if isinstance(one, InvocationLinked)] == ["bad", '{"error":"x"}']
