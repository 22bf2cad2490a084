# SPDX-License-Identifier: GPL-2.0-only
"""Every reader of text that is not ours: what it may raise, and samples of what it reads.

A target takes any bytes and ends, or raises a KlpError, or one of the exceptions that its caller is
documented to deal with. Anything else is a defect.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from harness.agent_protocol import (
    Directory,
    FilePoll,
    FileStatus,
    Hello,
    KlogBatch,
    KlogRecord,
    Spawned,
    Stragglers,
    TaskSample,
    Text,
    read_object,
)
from harness.behaviours.latest_results import KernelHistory
from harness.behaviours.mutants import read_mutant
from harness.behaviours.table import load_table
from harness.cli.registry import read_report
from harness.errors import KlpError, WrongAttribute
from harness.klog.policy import load_policy
from harness.klog.records import parse_console
from harness.klog.splats import SplatDetector, find_splats, find_splats_in_records
from harness.livepatch.blockers import parse_stack
from harness.livepatch.callbacks import read_callbacks
from harness.livepatch.sysfs import flag, number
from harness.livepatch.timeline import is_ready, read_timeline
from harness.livepatch.transition_log import read_attempts, read_measures
from harness.tools.race.recording_file import read_note
from harness.tools.selftests.output import ScriptOutput
from harness.tools.verify.scenes.leaks import read_slabinfo
from harness.vm.guest.agent import check_reply
from harness.vm.guest.qmp import forwarded_port
from harness.vm.host.manifest import first_fault, read_manifest
from harness.vm.kernel.config import KernelConfig, allconfig_text, merge, parse_fragment
from harness.vm.kernel.make_log import compiles, first_errors
from harness.vm.kernel.patch_file import changed_files, modules_see
from harness.vm.kernel.spec import parse_spec
from harness.vm.kernel.tree import source_version
from tests.fuzz.kernels import KERNEL_TARGETS
from tests.fuzz.reader import Target, file_with, scratch, text_of

ROOT = Path(__file__).parents[2]
KLOG = ROOT / "tests/unit/data/klog"


def records_of(data: bytes) -> list[KlogRecord]:
    """Return the lines as records of the kernel log, 100 ms from each other."""
    return [
        KlogRecord(seq=number, us=number * 100_000, level=6, text=line)
        for number, line in enumerate(text_of(data).split("\n"))
    ]


# -- readers ---------------------------------------------------------------------------------------


def _splats(data: bytes) -> None:
    text = text_of(data)
    found = find_splats(text)
    detector = SplatDetector()
    middle = len(text) // 2
    cut = [*detector.feed(text[:middle]), *detector.feed(text[middle:]), *detector.finish()]
    said = [(splat.title, splat.text, splat.category) for splat in found]
    assert said == [(splat.title, splat.text, splat.category) for splat in cut]
    find_splats_in_records(records_of(data))


def _transitions(data: bytes) -> None:
    records = records_of(data)
    read_attempts(records)
    read_measures(records)


def _timeline(data: bytes) -> None:
    lines = text_of(data).split("\n")
    any(map(is_ready, lines))
    timeline = read_timeline(line for line in lines if line)
    for transition in timeline.transitions():
        timeline.switches(transition)


def _agent(data: bytes) -> None:
    for line in data.split(b"\n"):
        reply = read_object(line)
        if reply is None:
            continue
        for model in _MODELS:
            try:
                model.of(reply)
            except KlpError:
                continue
        try:
            check_reply(reply, "/a/path")
        except (KlpError, OSError):
            continue


_MODELS = (Directory, FilePoll, FileStatus, Hello, KlogBatch, Spawned, Stragglers, TaskSample, Text)


def _selftest(data: bytes) -> None:
    for code in (0, 1, 4):
        output = ScriptOutput(("one", "two"), 0.0)
        for at_s, line in enumerate(text_of(data).split("\n")):
            output.take(line, float(at_s))
        cases = output.finish(code)
        assert all(case.verdict is not None for case in cases)


def _spec(data: bytes) -> None:
    parse_spec(data.decode(errors="surrogateescape").replace("\0", ""))


def _fragment(data: bytes) -> None:
    fragment = parse_fragment(text_of(data), "fuzz")
    again = parse_fragment(allconfig_text(merge([fragment])), "again")
    values = {request.symbol: request.value for request in fragment}
    assert {request.symbol: request.value for request in again} == values


def _config(data: bytes) -> None:
    KernelConfig.read(file_with(data, "config")).digest()


def _manifest(data: bytes) -> None:
    records = read_manifest(file_with(data, "manifest"))
    if records is not None:
        sum(record[0] for record in records.values())
        first_fault(scratch(), records, deep=True)


def _patch(data: bytes) -> None:
    modules_see(changed_files(data, "fuzz.patch"))


def _mutant(data: bytes) -> None:
    _ = read_mutant(file_with(data, "fuzz.patch")).diff


def _history(data: bytes) -> None:
    _ = KernelHistory.model_validate_json(data).at


def _make_log(data: bytes) -> None:
    lines = text_of(data).splitlines()
    first_errors(lines)
    any(map(compiles, lines))


def _version(data: bytes) -> None:
    folder = scratch() / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "Makefile").write_bytes(data)
    source_version(folder)


def _report(data: bytes) -> None:
    read_report(data.decode(errors="replace"))


def _attributes(data: bytes) -> None:
    text = text_of(data)
    for parse in (flag, number):
        with contextlib.suppress(WrongAttribute):
            parse(text, "/path")


# -- samples ---------------------------------------------------------------------------------------


_SAMPLE_BYTES = 6000


def _files(pattern: str) -> Callable[[], list[bytes]]:
    @cache
    def read() -> list[bytes]:
        return [path.read_bytes()[:_SAMPLE_BYTES] for path in sorted(ROOT.glob(pattern))]

    return read


def _lines(*lines: str) -> Callable[[], list[bytes]]:
    return lambda: [line.encode() for line in lines]


@cache
def _tables() -> list[bytes]:
    """A table of two rules, since the whole one takes 30 ms to read."""
    return [
        (
            b'series = ["6.1"]\npending = ["TR-02"]\n[sources]\nc99a2be7 = "a commit"\n'
            b'[[section]]\nid = "TR"\ntitle = "Transition"\nsource = "transition.c"\n'
            b'[[rule]]\nid = "TR-01"\nholds = "it holds"\nsource = ["c99a2be7"]\npublic = []\n'
            b'expect = [{series = ["all"], outcome = "passed", why = "so"}]\n'
        )
    ]


@cache
def _policies() -> list[bytes]:
    text = (ROOT / "harness/klog/policy.toml").read_text()
    entries = text.split("\n\n")
    return ["\n\n".join(entries[start : start + 4]).encode() for start in range(1, 40, 4)]


_SAMPLER_LINES = (
    '{"t_us":10,"tid":1,"pid":1,"comm":"init","kthread":false,"patch_state":-1}',
    '{"t_us":10,"ready":true}',
    '{"t_us":20,"transition":{"klp":1},"enabled":{"klp":1}}',
    '{"t_us":30,"tid":1,"pid":1,"comm":"init","kthread":false,"patch_state":0}',
    '{"t_us":40,"tid":1,"pid":1,"comm":"init","kthread":false,"patch_state":1}',
    '{"t_us":50,"transition":{"klp":0}}',
    '{"t_us":60,"gone":1}',
    '{"t_us":70,"transition":{"klp":null},"enabled":{"klp":null}}',
)
_SAMPLER = "\n".join(_SAMPLER_LINES)
_REPLIES = (
    '{"id":1,"errno":0,"text":"1\\n"}',
    '{"id":2,"errno":2,"error":"No such file"}',
    (
        '{"id":3,"errno":0,"protocol":1,"release":"6.1","cpus_online":2,"boot_id":"b",'
        '"uptime_us":1,"monotonic_us":1}'
    ),
    (
        '{"id":4,"errno":0,"monotonic_us":7,"tasks":[{"tid":1,"pid":1,"ppid":0,"comm":"init",'
        '"state":"S","kthread":false,"patch_state":-1,"cpu":0}]}'
    ),
    '{"id":5,"errno":0,"records":[{"seq":1,"us":2,"level":6,"text":"x"}],"next":2,"lost":0}',
    '{"id":6,"errno":0,"pid":77}',
    '{"id":7,"errno":0,"entries":[{"name":"a","type":"dir","mode":493}]}',
)
_REPORT = {
    "schema": 1,
    "command": "kernel list",
    "outcome": "passed",
    "harness": "0.2.0",
    "host": {"system": "s", "kernel": "k", "cpus": 2, "memory_mib": 1, "python": "3"},
    "kernel": None,
    "kernels": [],
    "accelerator": None,
    "accelerator_reason": None,
    "seconds": 0.1,
    "error": None,
    "results": [],
}
_HISTORY = {
    "format": 1,
    "kernel": {
        **dict.fromkeys(("spec", "version", "digest", "config_digest", "compiler"), "x"),
        "source": "s",
    },
    "tests": {
        "a.py::t": {"outcome": "passed", "seconds": 1, "at": "2026", "file": "f", "detail": None}
    },
}
_USERNET = (
    "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ "
    "SendQ\r\n  TCP[HOST_FORWARD]  15       127.0.0.1 43211       10.0.2.15    22     0     0\r\n"
)


@cache
def _recordings() -> list[bytes]:
    import zipfile

    path = scratch() / "a.recording"
    note = {
        "format": 1,
        **dict.fromkeys(("reproducer", "kernel", "digest", "qemu"), "x"),
        "seed": 1,
        "argv": ["qemu"],
        "memory_mib": 256,
        "seconds": 1.0,
        "shown": False,
        "message": None,
        "files": {"inputs": "d", "bzImage": "d"},
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("recording.json", json.dumps(note))
        for name in ("inputs", "initrd", "bzImage", "console.log"):
            archive.writestr(name, "content")
    return [path.read_bytes()]


TARGETS = (
    Target(name="splats", read=_splats, samples=_files("tests/unit/data/klog/*.log")),
    Target(
        name="console",
        read=lambda data: parse_console(text_of(data)),
        samples=_files("tests/unit/data/klog/warn*.log"),
    ),
    Target(
        name="transition-log",
        read=_transitions,
        samples=_lines(
            "livepatch: klp_try_switch_task: sleeper:12 is sleeping on function old\n"
            "livepatch: klp_try_switch_task: a:b:13 is running\n"
            "livepatch: signaling remaining tasks\n"
        ),
    ),
    Target(
        name="callbacks",
        read=lambda data: read_callbacks(records_of(data)),
        samples=_lines("klp_a: callback pre_patch vmlinux -\nklp_a: callback post_patch m LIVE"),
        raises=(ValueError,),
    ),
    Target(
        name="stack",
        read=lambda data: parse_stack(text_of(data)),
        samples=_lines("[<0>] klp_gate_wait+0x1d/0x40 [klp_target_gate]\n[<0>] f+0x1/0x2"),
    ),
    Target(name="timeline", read=_timeline, samples=_lines(_SAMPLER)),
    Target(name="agent", read=_agent, samples=_lines(*_REPLIES)),
    Target(
        name="selftest-output",
        read=_selftest,
        samples=_lines("TEST: basic function patching ... ok\nTEST: two ... not ok\n\nok\n"),
    ),
    Target(
        name="spec",
        read=_spec,
        samples=_lines(
            *("6.1", "newest", "build:/tmp", "deb:linux-image", "https://[::1]/linux.tar.xz"),
            *("~/linux", "./linux-6.6.tar.xz"),
        ),
    ),
    Target(name="fragment", read=_fragment, samples=_files("kernel-configs/*.config")),
    Target(name="config", read=_config, samples=_files("kernel-configs/base.config")),
    Target(
        name="manifest",
        read=_manifest,
        samples=_lines('{"format": 1, "files": {"a/b": [1, 2, "abc"], "c": [0, 0, ""]}}'),
    ),
    Target(name="patch", read=_patch, samples=_files("kernel-mutants/*.patch")),
    Target(name="mutant", read=_mutant, samples=_files("kernel-mutants/*.patch")),
    Target(
        name="history",
        read=_history,
        samples=_lines(json.dumps(_HISTORY)),
        raises=(ValueError,),
    ),
    Target(
        name="report",
        read=_report,
        samples=_lines(json.dumps(_REPORT)),
        raises=(ValueError, KeyError),
    ),
    Target(
        name="recording",
        read=lambda data: read_note(file_with(data, "recording")),
        samples=_recordings,
    ),
    Target(
        name="rules",
        read=lambda data: load_table(file_with(data, "rules.toml")),
        samples=_tables,
    ),
    Target(
        name="policy",
        read=lambda data: load_policy(file_with(data, "policy.toml")),
        samples=_policies,
    ),
    Target(
        name="make-log",
        read=_make_log,
        samples=_lines(
            "  CC      kernel/fork.o\nkernel/fork.c:3:1: error: expected ';'\nmake: *** [x] Error 2"
        ),
    ),
    Target(
        name="version",
        read=_version,
        samples=_lines("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n"),
    ),
    Target(
        name="slabinfo",
        read=lambda data: read_slabinfo(text_of(data)),
        samples=_lines("slabinfo - version: 2.1\n# name <active>\nkmalloc-8 12 20 8 512 1 : x\n"),
    ),
    Target(
        name="usernet",
        read=lambda data: forwarded_port(text_of(data)),
        samples=_lines(_USERNET),
    ),
    Target(name="attributes", read=_attributes, samples=_lines("0", "1", "-1\n")),
    *KERNEL_TARGETS,
)
