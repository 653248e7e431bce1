"""What messages of frameworks stand for."""

from collections.abc import Iterator

import pytest

from eventstore.events import Event, InvocationLinked, InvocationStarted, MessageAdded, UsageRecorded
from eventstore.integrations.meaning import call_ended, meant


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


@pytest.mark.parametrize("wrong", [{}, "text", None, {"parts": 5}], ids=repr)
def test_data_of_another_shape_means_nothing(wrong: object) -> None:
    def find(message: dict[str, list[str]]) -> Iterator[Event]:
        yield MessageAdded(role="user", content="before")
        for part in message["parts"]:
            yield MessageAdded(role="user", content=part)

    assert meant(find, wrong) == []
    assert [type(one) for one in meant(find, {"parts": ["a"]})] == [MessageAdded, MessageAdded]


def test_what_a_log_refuses_is_cleaned_cut_or_left_out() -> None:
    large = {"text": "y" * 20_000_000}
    events = [
        MessageAdded(role="user", content="half \ud83d"),
        MessageAdded(role="user", content="x" * 20_000_000),
        MessageAdded(role="nobody", content="x"),  # type: ignore[arg-type]
        InvocationStarted(invocation_id="c", tool_name="t\ud83d", input=large),
        UsageRecorded(tokens={"input": -1}),
    ]
    half, cut, started = meant(lambda: events)
    assert half == MessageAdded(role="user", content="half ?")
    assert isinstance(cut, MessageAdded)
    assert cut.content == "x" * 1_000_000 + " [... 19000000 more characters]"
    assert started == InvocationStarted(invocation_id="c", tool_name="t?", input=large)
