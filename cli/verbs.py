"""Every top-level name: its section, the module that holds it, and one line of help. Importing this imports nothing.

A test compares each line with the help of the command itself.
"""

from __future__ import annotations

_P = "muniment.cli."
OPERATE, AUDIT, RESPOND, STORE, HELP = "Operate", "Audit", "Respond", "Store", "Help"

TABLE: dict[str, tuple[str, str, str, str]] = {
    "intake": (OPERATE, _P + "intake", "intake", "Inputs: add, list, show."),
    "build": (OPERATE, _P + "build", "build", "Gated runs from an intake to a pack."),
    "pack": (OPERATE, _P + "pack", "pack", "Artifacts: create, verify, register, block."),
    "channel": (OPERATE, _P + "channel", "channel", "Channels and scopes: declare, pin, freeze, show."),
    "release": (OPERATE, _P + "release", "release", "Rollouts of a pack over slots."),
    "activate": (
        OPERATE,
        _P + "activation",
        "activate",
        "Verify, switch and record a slot's pack on a target.",
    ),
    "active": (OPERATE, _P + "activation", "active", "Say what a target runs, from the target itself."),
    "health": (OPERATE, _P + "slot", "health", "Health of what is active."),
    "slot": (OPERATE, _P + "slot", "slot", "Slots: attest, unstick, lift-quarantine."),
    "validate": (OPERATE, _P + "spec", "validate", "Check the shape of a spec and print its canonical form."),
    "describe": (OPERATE, _P + "spec", "describe", "Say what a spec does, in stable words."),
    "dot": (OPERATE, _P + "spec", "dot", "Draw a spec: stages or roles, and what flows between them."),
    "rollback": (RESPOND, _P + "rollback", "rollback", "Go back, with a code for every candidate."),
    "run": (OPERATE, _P + "run", "run", "Run a pipeline spec over lines of input."),
    "snapshot": (
        RESPOND,
        _P + "snapshot",
        "snapshot",
        "Capture the state of a running pipeline, without stopping or slowing it.",
    ),
    "incident": (RESPOND, _P + "incident", "incident", "Declare, contain, resolve, close."),
    "doctor": (RESPOND, _P + "doctor", "doctor", "Check this host against what a profile asks of it."),
    "history": (AUDIT, _P + "history", "history", "The records: list, show, follow."),
    "explain": (AUDIT, _P + "explain", "explain", "Say why: rule, facts, policy, candidates."),
    "tour": (AUDIT, _P + "tour", "tour", "The whole review route of a release in one place."),
    "evidence-summary": (AUDIT, _P + "evidence", "evidence_summary", "What a release rests on."),
    "verify": (AUDIT, _P + "verify", "verify", "Check the store: chain, digests, signatures."),
    "projection": (AUDIT, _P + "projection", "projection", "Derived views: status, rebuild, digest."),
    "schema": (AUDIT, _P + "schema", "schema", "Shapes of records and outputs."),
    "init": (STORE, _P + "admin", "init", "Create a store here."),
    "store": (STORE, _P + "store", "store", "Whole stores: copy, backup, restore, migrate."),
    "demo": (STORE, _P + "demo", "demo", "Tell the whole story on a fresh store, in under a minute."),
    "identity": (STORE, _P + "admin", "identity", "Names with keys: add, list."),
    "key": (STORE, _P + "admin", "key", "Keys of this user: create, list, revoke."),
    "policy": (STORE, _P + "admin", "policy", "What is required and allowed: show, publish."),
    "clock": (STORE, _P + "admin", "clock", "The clock of this host: accept."),
    "help": (HELP, _P + "topics", "help_", "Topics: exit-codes, environment, references, time."),
    "completion": (HELP, _P + "topics", "completion", "Print a completion script for a shell."),
}
