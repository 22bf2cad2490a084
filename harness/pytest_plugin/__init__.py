# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: fixtures, options and markers for tests that need a livepatch kernel.

Fixtures: ``kernel``, ``klp_session``, ``guest`` (fresh for every test), ``livepatch``, ``tasks``,
``gate``, ``kernel_log``, ``sample_modules`` and ``build_module``. docs/writing-tests.md has
examples. The plugin does nothing in a run whose tests use none of them.
"""

from harness.pytest_plugin.fixtures import (
    build_module,
    gate,
    guest,
    kernel,
    kernel_log,
    klp_session,
    livepatch,
    needed_features,
    oracle,
    sample_modules,
    tasks,
    template,
)
from harness.pytest_plugin.options import (
    pytest_addoption,
    pytest_configure,
    pytest_configure_node,
    pytest_generate_tests,
    pytest_unconfigure,
    pytest_xdist_auto_num_workers,
)
from harness.pytest_plugin.order import pytest_collection_modifyitems
from harness.pytest_plugin.reporting import (
    pytest_itemcollected,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_terminal_summary,
)

__all__ = (
    "build_module",
    "gate",
    "guest",
    "kernel",
    "kernel_log",
    "klp_session",
    "livepatch",
    "needed_features",
    "oracle",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_itemcollected",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_unconfigure",
    "pytest_xdist_auto_num_workers",
    "sample_modules",
    "tasks",
    "template",
)
