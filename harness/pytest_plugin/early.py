# SPDX-License-Identifier: GPL-2.0-only
"""Boots the template of a run while its workers start, each of which would wait for it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from harness.errors import KlpError
from harness.log import LOGGER
from harness.pytest_plugin.observing import plugins_of
from harness.pytest_plugin.options import guest_settings, plan, user_files, user_root
from harness.vm.guest import runs
from harness.vm.guest.session import Fresh, Session

if TYPE_CHECKING:
    from harness.vm.kernel.kernel import Kernel


class EarlyTemplate:
    """A plugin for the controller of a run with workers, on a kernel that is built.

    It judges nothing: where the boot fails, the first worker that needs a guest boots it again, and
    its test reports why it failed.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._thread: threading.Thread | None = None
        self._open = contextlib.ExitStack()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config) -> None:
        """Begin before the first worker is started."""
        settings = guest_settings(config)
        if settings.fresh is Fresh.SNAPSHOT:
            try:
                files, root = user_files(config), user_root(config)
            except KlpError as error:
                LOGGER.info("the template is not booted early: %s", error)
                return
            session = Session(
                plan(config).folder,
                settings,
                runs.store(),
                extra_files=files,
                plugins=plugins_of(config),
                root=root,
            )
            self._thread = threading.Thread(
                target=self._boot, args=(session,), name="template", daemon=True
            )
            self._thread.start()

    def pytest_unconfigure(self) -> None:
        """Release the template; one that still boots dies with this process."""
        if self._thread is not None and not self._thread.is_alive():
            self._open.close()

    def _boot(self, session: Session) -> None:
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(session)
                session.prepare(self._kernel)
                self._open = stack.pop_all()
        except (KlpError, OSError) as error:
            LOGGER.info("the template could not be booted early: %s", error)
