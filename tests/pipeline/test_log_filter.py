"""Each exception is shown once in a run's log: a user's fault as two lines, any other with its traceback."""

import asyncio
import logging

import pytest
from prefect.exceptions import TerminationSignal
from prefect.states import exception_to_crashed_state

import flows.__main__
from adaptformer.base.errors import UserError
from flows.log_filter import OneCause, is_ours_or_a_fault


def record(error):
    return logging.LogRecord("prefect", logging.ERROR, "file", 1, "failed", (), (type(error), error, None))


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), MemoryError(), RuntimeError("x")])
def test_a_fault_is_shown_with_its_traceback_once(error):
    shown = OneCause()
    first, second = record(error), record(error)
    assert shown.filter(first)
    assert first.exc_info[1] is error
    assert shown.filter(second)
    assert second.exc_info is None


def test_a_users_fault_is_two_lines_once():
    shown = OneCause()
    first, second = record(UserError("cause", "remedy")), None
    assert shown.filter(first)
    assert first.getMessage() == "cause\nremedy"
    assert first.exc_info is None
    second = record(UserError("cause", "remedy"))
    error = second.exc_info[1]
    assert shown.filter(second)
    assert not shown.filter(record(error))


@pytest.mark.parametrize("arguments", [[], ["promote"], ["run", "epochs"], ["compare", "--bogus"]])
def test_a_wrong_call_of_the_flows_ends_with_1(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        flows.__main__.main(arguments)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "level", "message", "shown"),
    [
        ("adaptformer", logging.INFO, "epoch 1", True),
        ("prefect.flow_runs", logging.INFO, "Beginning flow run", False),
        ("prefect.flow_runs", logging.ERROR, "Crash detected! Request to http://127.0.0.1:4200 failed", True),
        ("prefect.task_runs", logging.ERROR, "Crash detected! {}", False),
    ],
)
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TerminationSignal(signal=15)])
def test_a_stop_by_a_signal_is_not_told_in_prefects_words_too(name, level, message, shown, stop):
    state = asyncio.run(exception_to_crashed_state(stop))
    record = logging.LogRecord(name, level, "file", 1, message.format(state.message), (), None)
    assert is_ours_or_a_fault(record) == shown
