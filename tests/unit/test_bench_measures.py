# SPDX-License-Identifier: GPL-2.0-only
"""What `make bench` measures, with stand-ins for guests, builds and commands."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import builds, explored, kept, peers
from benchmarks import instructions as counted
from benchmarks.builds import MUTANT_BUILD_RATIO, mutant_build, mutants_to_build
from benchmarks.figures import Bound, Budget, side
from benchmarks.reference import boots
from benchmarks.upstream import EQUIVALENTS, upstream_cases
from harness.behaviours.rule_tests import find_rule_tests
from harness.behaviours.table import load_table
from harness.errors import HarnessError, MissingTool, UsageError
from harness.observer.shared_file import Flag
from harness.resources import Resource, resource_dir
from harness.tools.selftests.tree import SUITE
from harness.vm.host.accel import Accel
from harness.vm.host.cache import Store
from harness.vm.kernel.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.kernel.build import KernelRequest

# Of a real clone just connected, the only one to map its template's RAM.
SILENT = LineProgress(lambda _line: None)


def kernel(spec: str, version: str) -> Any:
    return SimpleNamespace(spec=spec, version=version, describe=lambda: version)


def test_mutants_are_built_under_names_of_their_own_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant that the cache has would take no time. The clean kernel is another key."""
    names: list[str] = []
    took = iter([0.0, 9.0, 10.0, 30.0, 40.0, 53.0])
    removed: list[str] = []

    def obtain(request: KernelRequest, **_: object) -> Any:
        [patch] = request.patches
        assert patch.is_file()
        names.append(patch.name)
        return SimpleNamespace(digest=f"key {len(names)}")

    monkeypatch.setattr(builds, "obtain_kernel", obtain)
    monkeypatch.setattr(builds, "time", SimpleNamespace(monotonic=lambda: next(took)))
    monkeypatch.setattr(Store, "remove", lambda _, kind, key: removed.append(key))
    made = kernel("6.1", "6.1.192")
    monkeypatch.setattr(builds, "modules_build", lambda _: side("the sample modules", "s", [26.0]))
    [figure] = mutant_build(made, tmp_path, progress=SILENT)
    assert (figure.value, figure.sides[0].value, figure.sides[0].unit) == (0.5, 13.0, "s")
    assert figure.budget == Budget(bound=Bound.AT_MOST, value=MUTANT_BUILD_RATIO)
    assert removed == ["key 1", "key 2", "key 3"]
    assert len(set(names)) == 3
    known = {mutant.path.name for mutant in mutants_to_build(made)}
    assert len(known) == 3
    assert not set(names) & known


@pytest.mark.parametrize(
    ("spec", "version"), [("5.10", "5.10.262"), ("build:.", "6.1.192"), ("deb:a", "6.1.192")]
)
def test_kernels_without_a_mutant_to_build(spec: str, version: str, tmp_path: Path) -> None:
    """A series that none is written for, and what comes without sources."""
    made = kernel(spec, version)
    assert mutants_to_build(made) == ()
    with pytest.raises(UsageError, match="no mutant to build"):
        mutant_build(made, tmp_path, progress=SILENT)


def test_a_kept_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time is that of a command that succeeded; the guest is stopped in any case."""
    asked: list[tuple[str, ...]] = []

    def answered(*words: str, stdin: str | None = None) -> Any:
        asked.append(words)
        if words[0] == "dump":
            Path(words[3]).write_bytes(b"x")
        said = "kept: guest boot-1 (the script ended with exit code 1)" if stdin else ""
        return SimpleNamespace(returncode=codes.get(words[0], 0), stderr=said)

    codes: dict[str, int] = {}
    place: Any = None
    monkeypatch.setattr(kept, "_klp", answered)
    monkeypatch.setattr(kept, "boots", lambda _, runs: side("a boot", "s", [2.0] * runs))
    figures = kept.kept_guest(place, "6.1", "tcg", times=2, progress=SILENT)
    assert [(each.id, each.met) for each in figures] == [("kept-ssh", True), ("kept-dump", True)]
    assert [each.sides[1].runs for each in figures] == [(2.0, 2.0)] * 2
    assert [words[0] for words in asked] == ["boot", "ssh", "dump", "ssh", "dump", "guests"]
    codes["ssh"] = 255
    with pytest.raises(HarnessError, match="ssh failed with exit code 255"):
        kept.kept_guest(place, "6.1", "tcg", times=2, progress=SILENT)
    assert asked[-1] == ("guests", "stop", "boot-1")


def test_a_trial_of_race_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command by the trials that it made; a finding, or no trial, is no figure."""
    tried, code = [20, 40], 0

    def run(words: list[str], **_: object) -> SimpleNamespace:
        file = next(each for each in words if each.startswith("--json=")).partition("=")[2]
        Path(file).write_text(json.dumps({"results": [{"tried": each} for each in tried]}))
        return SimpleNamespace(returncode=code, seconds=30.0, stderr="it failed\n")

    @contextlib.contextmanager
    def nothing(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(guest=nothing)

    monkeypatch.setattr(explored, "run", run)
    asked: list[Accel] = []
    place: Any = SimpleNamespace(session=nothing, kernel=None)
    assert len(boots(place, runs=3).runs) == 3

    def under(accel: Accel) -> Any:
        asked.append(accel)
        return place

    place.under = under
    (figure,) = explored.explore_trials(place, "6.1", runs=2, progress=SILENT)
    assert asked == [Accel.TCG]
    assert figure.sides[0].value == 0.5
    assert len(figure.sides[1].runs) == 2
    tried = [0]
    with pytest.raises(HarnessError, match="no trial was made"):
        explored.explore_trials(place, "6.1", runs=1, progress=SILENT)
    code = 1
    with pytest.raises(HarnessError, match="exit code 1, so its time means nothing"):
        explored.explore_trials(place, "6.1", runs=1, progress=SILENT)


def test_what_a_guest_executes_until_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plugin's clock is read twice in a guest: at the first answer, and when SSH is there."""
    clock = iter(million * 10**6 for million in (2, 3, 4, 40, 2, 5, 4, 60))
    plugins: list[Any] = []

    @contextlib.contextmanager
    def session(make: Any) -> Iterator[SimpleNamespace]:
        plugins.append(make(None))
        yield SimpleNamespace(guest=guest)

    with_ssh: list[bool] = []

    @contextlib.contextmanager
    def guest(*_: object, ssh: bool, **__: object) -> Iterator[SimpleNamespace]:
        with_ssh.append(ssh)
        yield SimpleNamespace(hypervisor=SimpleNamespace(observed=tmp_path), ssh=lambda: None)

    def shared(_: Path) -> SimpleNamespace:
        return SimpleNamespace(head=SimpleNamespace(clock=next(clock)))

    built = SimpleNamespace(library=tmp_path, flags=Flag.CPU_BY_GS)
    monkeypatch.setattr(counted, "obtain_plugin", lambda *_, **__: built)
    monkeypatch.setattr(counted, "SharedFile", shared)
    place: Any = SimpleNamespace(session=session, kernel=None, cache=tmp_path)
    place.under = lambda _: place
    figures = counted.start_instructions(place, times=2)
    assert [(each.id, each.value) for each in figures] == [
        ("start-answer", 3),
        ("start-ssh", 4),
        ("start-exchange", 50),
    ]
    assert {each.unit for each in figures} == {"million instructions"}
    assert with_ssh == [True, False, True, False]
    assert len(plugins) == 1


def test_every_equivalent_of_a_selftest_proves_a_rule_of_upstreams() -> None:
    """Each is a test of the suite, and of a rule that the selftests test."""
    public = {rule.id for rule in load_table().rule if "upstream" in rule.public}
    carriers = find_rule_tests(resource_dir(Resource.BEHAVIOUR_TESTS))
    proving = {test for rule in public for test in carriers[rule]}
    named = {test for tests in EQUIVALENTS.values() for test in tests}
    assert {test.partition("[")[0] for test in named} <= proving
    assert len(EQUIVALENTS) == 22


def test_unknown_selftests_are_no_figure(tmp_path: Path) -> None:
    """A kernel with cases of which nothing is known here is refused, before any guest starts."""
    suite = tmp_path / SUITE
    suite.mkdir(parents=True)
    (suite / "Makefile").write_text("TEST_PROGS := test-new.sh\n")
    (suite / "test-new.sh").write_text('start_test "something new"\n')
    kernel = SimpleNamespace(build_dir=tmp_path, describe=lambda: "7.2")
    bench: Any = SimpleNamespace(kernel=kernel)
    with pytest.raises(HarnessError, match=re.escape("test-new.sh/something new")):
        upstream_cases(bench, "7.2", "tcg", progress=SILENT)


def test_the_peer_without_udev_is_told_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing udev is reported before the download."""
    monkeypatch.setattr(peers, "program", lambda name: lambda: None)
    with pytest.raises(MissingTool, match="need udev") as caught:
        peers.virtme_ng(None, "6.1", None, runs=1, progress=SILENT)  # type: ignore[arg-type]
    assert caught.value.hint == "Debian, Ubuntu: apt-get install udev"
