# SPDX-License-Identifier: GPL-2.0-only
"""The settings that a patch leaves changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.tools.verify.scenes.sysctls import changed_settings, read_settings

SETTINGS = """\
/proc/sys/fs/dentry-state:589\t48\t45\t0\t1\t0
/proc/sys/fs/inode-nr:600\t0
/proc/sys/kernel/ostype:Linux
/proc/sys/kernel/panic:0
/proc/sys/kernel/ns_last_pid:122
/proc/sys/kernel/random/uuid:bf0e13c6
/proc/sys/kernel/tainted:0
/proc/sys/vm/overcommit:a
/proc/sys/vm/overcommit:b
/sys/module/driver/parameters/calls:7
/sys/module/kernel/parameters/panic:0
not a setting
"""


def test_a_setting_that_stays_is_told_and_what_varies_by_itself_is_not() -> None:
    """Counters, random numbers and the taint change with each guest's life."""
    machine: Any = SimpleNamespace(
        run=lambda argv: SimpleNamespace(stdout=SETTINGS if "/proc/sys" in argv[2] else "")
    )
    before = read_settings(machine, without={"driver"})
    assert before == {
        "/proc/sys/kernel/ostype": "Linux",
        "/proc/sys/kernel/panic": "0",
        "/proc/sys/vm/overcommit": "a b",
        "/sys/module/kernel/parameters/panic": "0",
    }
    now = {**before, "/proc/sys/kernel/panic": "30", "/sys/module/klp_x/parameters/y": "1"}
    del now["/proc/sys/vm/overcommit"]
    assert changed_settings(before, now) == ("setting /proc/sys/kernel/panic is '30', and was '0'",)
    assert changed_settings(before, before) == ()


def test_settings_that_cannot_be_read_are_no_match() -> None:
    """A kernel may have none of them (CONFIG_PROC_SYSCTL); else there is something to read."""
    there = {"/proc/sys/kernel/ostype"}

    def stat(path: str) -> None:
        if path not in there:
            raise FileNotFoundError(path)

    machine: Any = SimpleNamespace(
        run=lambda _: SimpleNamespace(stdout="", stderr="sh: grep: not found"), stat=stat
    )
    with pytest.raises(HarnessError, match="settings") as raised:
        read_settings(machine, without=())
    assert raised.value.details == ("sh: grep: not found",)
    there.clear()
    assert read_settings(machine, without=()) == {}
