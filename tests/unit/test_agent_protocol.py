# SPDX-License-Identifier: GPL-2.0-only
"""The agent's messages: what is encoded can be decoded, what is malformed is refused."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.agent_protocol import EVENT, ExitEvent, LineEvent, Task, TaskSample, encode_request


@given(
    number=st.integers(min_value=1, max_value=10**12),
    args=st.lists(st.text(alphabet=st.characters(codec="utf-8"))),
)
def test_any_arguments_survive(number: int, args: list[str]) -> None:
    """A request is one line of ASCII from which every argument comes back as it was."""
    line = encode_request(number, "write", args)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    first, verb, *fields = line[:-1].decode("ascii").split(" ")
    assert (int(first), verb) == (number, "write")
    decoded = ["" if field == "%" else unquote_to_bytes(field).decode() for field in fields]
    assert decoded == args


TASK = {
    "tid": 2,
    "pid": 2,
    "ppid": 0,
    "comm": "kthreadd",
    "state": "S",
    "kthread": True,
    "patch_state": None,
    "cpu": 1,
}


def test_task_without_patch_state() -> None:
    """A kernel without livepatching has no patch_state: that is None, not a number."""
    sample = TaskSample.model_validate({"monotonic_us": 5, "tasks": [TASK]})
    assert sample.tasks == (Task(**TASK),)  # type: ignore[arg-type]
    assert sample.tasks[0].patch_state is None


@pytest.mark.parametrize(
    "change", [{"tid": "2"}, {"patch_state": "x"}, {"kthread": 1}], ids=["tid", "state", "kthread"]
)
def test_wrong_types_are_refused(change: dict[str, object]) -> None:
    """What comes from the guest is checked: a text where a number belongs is an error."""
    with pytest.raises(ValidationError):
        Task.model_validate(TASK | change)


def test_missing_field_is_refused() -> None:
    """A reply without a field that belongs to it is an error."""
    with pytest.raises(ValidationError):
        Task.model_validate({key: value for key, value in TASK.items() if key != "comm"})


def test_events_by_their_name() -> None:
    """Lines and exits of spawned programs are told apart by their name."""
    line = EVENT.validate_python({"event": "line", "pid": 3, "stream": "stdout", "text": "x"})
    ended = EVENT.validate_python({"event": "exit", "pid": 3, "code": None, "signal": 9})
    assert line == LineEvent(event="line", pid=3, stream="stdout", text="x")
    assert ended == ExitEvent(event="exit", pid=3, code=None, signal=9)
    with pytest.raises(ValidationError):
        EVENT.validate_python({"event": "fork", "pid": 3})
