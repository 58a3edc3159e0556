"""The examples of `ops/deploy`: they parse, what they rest on is in them, and every command they name exists."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from muniment.domain.errors import UsageError
from muniment.store.postgres_pool import parameters
from muniment.store.postgres_url import parse

HERE = Path(__file__).parents[2] / "ops" / "deploy"
FILES = sorted(path for path in HERE.rglob("*") if path.is_file())
UNITS = [path for path in FILES if path.suffix in {".service", ".timer"}]
SERVICES = [path for path in UNITS if path.suffix == ".service"]
_named = re.compile(r"(?:/usr/bin/|`|^\s*\$ )muniment ([a-z][^`'\n]*)", re.MULTILINE)
_flow = re.compile(r"command: \[(muniment, [^\]]*)\]")
_url = re.compile(r"postgresql://[^\s`'\"]+")

_spec = importlib.util.spec_from_file_location("hints", HERE.parents[1] / "tests" / "cli" / "test_hints.py")
assert _spec is not None
assert _spec.loader is not None
hints = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hints)


def unit(path: Path) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False, delimiters=["="], comment_prefixes=["#"])
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


def commands(text: str) -> list[str]:
    flow = [words.removeprefix("muniment, ").replace(",", "") for words in _flow.findall(text)]
    return [re.sub(r'"[^"]*"', "X", words).strip() for words in _named.findall(text)] + flow


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_exists(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        assert hints.problem(words) == "", f"{path.name}: muniment {words}"


def test_commands_are_found() -> None:
    found = {words for path in FILES for words in commands(path.read_text(encoding="utf-8"))}
    assert {"verify store --new", "verify store --decisions", "store migrate"} <= found
    assert any(words.startswith("store backup") for words in found)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.suffix != ".md"] + [HERE / "README.md"],
    ids=lambda path: path.name,
)
def test_every_url_is_one_that_the_store_takes(path: Path) -> None:
    for url in _url.findall(path.read_text(encoding="utf-8")):
        assert parameters(parse(url))["target_session_attrs"] == "read-write"


def test_a_wrong_url_would_be_found() -> None:
    with pytest.raises(UsageError):
        parameters(parse("postgresql://u@a,b/db?target_session_attrs=any"))


def test_compose_starts_what_a_commit_waits_for() -> None:
    compose = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert {"primary", "standby", "migrate"} == set(services)
    assert ["muniment", "store", "migrate"] == services["migrate"]["command"]
    assert "synchronous_standby_names = 'standby'" in compose["configs"]["replication"]["content"]
    assert "application_name=standby" in compose["configs"]["standby"]["content"]
    assert {"fsync=on", "synchronous_commit=on"} <= set(services["primary"]["command"])
    for service in services.values():
        for one in service.get("configs", ()):
            assert one["source"] in compose["configs"]
        for one in service.get("depends_on", ()):
            assert one in services
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"]
    for config in compose["configs"].values():
        script = config["content"].replace("$$", "$")
        assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


def test_patroni_acknowledges_nothing_alone() -> None:
    patroni = yaml.safe_load((HERE / "patroni.yaml").read_text(encoding="utf-8"))
    dcs = patroni["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] is dcs["synchronous_mode_strict"] is True
    assert dcs["maximum_lag_on_failover"] == 0
    assert ("on", "on") == tuple(
        dcs["postgresql"]["parameters"][name] for name in ("fsync", "synchronous_commit")
    )
    assert patroni["watchdog"]["mode"] == "required"
    assert dcs["ttl"] >= dcs["loop_wait"] + 2 * dcs["retry_timeout"], "Patroni's own rule"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_its_parts(path: Path) -> None:
    found = unit(path)
    if path.suffix == ".timer":
        assert path.with_suffix(".service") in SERVICES
        assert found["Timer"]["Persistent"] == "yes"
        assert found["Install"]["WantedBy"] == "timers.target"
        return
    service = found["Service"]
    assert service["Type"] == "oneshot"
    assert path.with_suffix(".timer") in UNITS
    hard = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "UMask": "0077",
    }
    assert hard.items() <= dict(service).items()
    assert service["User"] not in ("", "root")
    assert "password" not in path.read_text(encoding="utf-8").lower()


def test_what_the_readme_names_is_there() -> None:
    text = (HERE / "README.md").read_text(encoding="utf-8")
    for name in ("compose.yaml", "patroni.yaml", *(path.name for path in UNITS if path.suffix == ".timer")):
        assert f"`{name}`" in text
    for test in re.findall(r"`(tests/[\w/.]+\.py)`", text):
        assert (HERE.parents[1] / test).is_file()
