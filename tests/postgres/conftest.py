"""Long runs are left out unless they are asked for: `-m soak`, or the id of one."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" in config.option.markexpr or any("soak" in word for word in config.invocation_params.args):
        return
    out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("soak")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
