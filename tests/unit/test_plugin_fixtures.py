# SPDX-License-Identifier: GPL-2.0-only
"""The plugin's fixtures where they need no guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]


def test_template_still_works_and_says_what_to_take(pytester: pytest.Pytester) -> None:
    """Tests of others may have the old fixture; it is one object with the two that replace it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def kernel(): return "a kernel"

        @pytest.fixture(scope="session")
        def klp_session(): return "a session"

        def test_it(template):
            assert (template.kernel, template.session) == ("a kernel", "a session")
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:xdist")
    ran.assert_outcomes(passed=1, warnings=1)
    ran.stdout.fnmatch_lines("*the fixture template is deprecated: take kernel and klp_session*")
