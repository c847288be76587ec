"""A request to stop comes once; only Ctrl-C after it breaks off."""

from __future__ import annotations

import os
import signal

import pytest

from potstill.core.errors import Stopped
from potstill.core.progress import StopSignal


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request_and_a_second_sigterm_no_other(first: signal.Signals) -> None:
    stop = StopSignal()
    with stop.catch_interrupts():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGTERM)  # as `timeout` does, to the process and its group
        with pytest.raises(Stopped, match=f"{first.name} was received"):
            stop.check("working")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
