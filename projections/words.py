"""One record as a line of words: what timelines, histories and explanations show. Pure; never longer than a line."""

from __future__ import annotations

from typing import Any

from muniment.domain.decision import Fact
from muniment.projections.runtime_words import more

MAX = 160

# type (without version) -> words; {field} is a payload field, short for digests and lists.
_WORDS = {
    "store.created": "store {store_id} created",
    "store.maintenance_declared": "maintenance declared: {act}",
    "policy.published": "policy {policy} in force",
    "identity.added": "key {key_id} bound to {identity}",
    "key.revoked": "key {key_id} of {identity} revoked",
    "clock.jump_observed": "clock jumped by {seconds} s across a boot",
    "clock.jump_accepted": "clock jump of {seconds} s accepted",
    "intake.recorded": "intake {intake}: {files} files, {bytes} bytes from {origin}",
    "build.requested": "build {build} of {product} from intake {intake}",
    "build.inputs_frozen": "inputs of {build} frozen: {files} files",
    "build.stage_started": "stage {stage} of {build} started ({attempt})",
    "build.stage_finished": "stage {stage} of {build}: {status}",
    "build.gate_decided": "gate {gate} of {build}: {verdict}",
    "build.gate_waived": "gate {gate} of {build} waived until {expires_at}",
    "build.compile_refused": "compile of {build} refused: {failed}",
    "build.compiled": "build {build} compiled pack {pack}",
    "build.reproduced": "second compile of {build} compared: equal {equal}",
    "build.finished": "build {build} {outcome} {failed}",
    "build.cancelled": "build {build} cancelled",
    "pack.registered": "pack {pack} registered as {product} seq {seq}",
    "pack.admitted": "pack {pack} admitted",
    "pack.available": "pack {pack} available at {site}",
    "pack.reverified": "pack {pack} verified: {verdict}",
    "pack.blocked": "pack {pack} blocked in {scope} {advisory}",
    "pack.unblocked": "pack {pack} unblocked in {scope}",
    "pack.withdrawn": "pack {pack} withdrawn",
    "channel.declared": "channel {channel} declared, cohorts {cohorts}",
    "channel.pinned": "{scope} pinned to pack {pack}",
    "channel.unpinned": "{scope} unpinned from pack {pack}",
    "channel.frozen": "{scope} frozen {kind} ({freeze})",
    "channel.unfrozen": "{scope} unfrozen ({freeze})",
    "channel.floor_raised": "floor of {scope} raised to {floor}",
    "channel.baselined": "baseline of {scope} is pack {pack}",
    "target.adopted": "target {target} adopted into {slot}",
    "slot.health_reported": "{slot} target {target}: {status}",
    "slot.good_attested": "pack {pack} good in {slot} target {target}",
    "slot.good_revoked": "pack {pack} no longer good in {slot}: {cause}",
    "slot.quarantined": "pack {pack} quarantined in {channel}",
    "slot.quarantine_lifted": "quarantine of pack {pack} in {channel} lifted",
    "slot.stuck": "{slot} target {target} is STUCK: {reason}",
    "slot.unstuck": "{slot} target {target} unstuck with pack {pack}",
    "release.created": "release {release} of pack {pack} over {slots}",
    "release.submitted": "release {release} submitted",
    "release.approved": "release {release} approved by {by}",
    "release.started": "release {release} started",
    "release.exposed": "release {release} stage {stage} exposed to {slots}",
    "release.promoted": "pack {pack} desired in {slots} by release {release}",
    "release.soaked": "release {release} stage {stage} soaked",
    "release.gate_judged": "release {release} stage {stage}: {verdict}",
    "release.paused": "release {release} paused: {cause}",
    "release.resumed": "release {release} resumed",
    "release.completed": "release {release} completed",
    "release.aborted": "release {release} aborted, a slot is stuck",
    "release.rolled_back": "release {release} rolled back",
    "activation.planned": "activation {activation} planned: pack {pack} on {target} ({kind})",
    "activation.fetched": "activation {activation}: fetched",
    "activation.fetch_failed": "activation {activation}: fetch failed: {reason}",
    "activation.verified": "activation {activation}: verified",
    "activation.verification_failed": "activation {activation}: verification failed: {attacks}",
    "activation.staged": "activation {activation}: staged",
    "activation.stage_failed": "activation {activation}: staging failed: {reason}",
    "activation.switched": "{slot} target {target} switched to pack {pack}",
    "activation.confirmed": "{slot} target {target} confirmed on pack {link}",
    "activation.abandoned": "activation {activation} abandoned: {reason}",
    "activation.reverted": "{slot} target {target} reverted to pack {active}",
    "rollback.requested": "rollback {rollback} of {slot} target {target} requested: {trigger}",
    "rollback.pack_selected": "rollback {rollback} goes to pack {pack}",
    "rollback.no_candidate": "rollback {rollback} has no candidate: {reason}",
    "rollback.step_failed": "rollback {rollback}: pack {pack} failed too",
    "rollback.completed": "rollback {rollback} completed on pack {pack}",
    "incident.declared": "incident {incident} {severity} in {scope}: {summary}",
    "incident.noted": "incident {incident}: {text}",
    "incident.contained": "incident {incident} contained",
    "incident.mitigated": "incident {incident} mitigated",
    "incident.resolved": "incident {incident} resolved: {resolution}",
    "incident.review_opened": "incident {incident} in review",
    "incident.closed": "incident {incident} closed",
    "runtime.spec_validated": "spec {spec} valid: {model}, {stages} stages",
    "runtime.spec_rejected": "spec {spec} rejected:",
    "runtime.host_checked": "host {host_id} checked for {profile}:",
    "runtime.run_started": "run {run} of {spec} started from {source}",
    "runtime.run_ended": "run {run} of {spec}",
    "runtime.snapshot_captured": "ring",
    "runtime.heartbeat_recorded": "run {run} heartbeat {beat}",
    "runtime.batch_acknowledged": "run {run} acknowledged {source}",
    "fact.imported": "{event_type} {event_id} from {source} {subject}",
    "command.refused": "refused {rule}: {message}",
}


def line(fact: Fact) -> str:
    """One line for one record. Control characters become spaces; a terminal still has to escape the rest."""
    type_ = fact.type.partition("/")[0]
    words = _WORDS.get(type_)
    if words is None:
        return fact.type
    text = words.format_map(_Short(fact.data)) + more(type_, fact.data)
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= MAX else text[: MAX - 1] + "…"


class _Short(dict[str, Any]):
    """Fields for words: short pack ids, joined lists, nothing for what is absent."""

    def __missing__(self, key: str) -> str:
        return ""

    def __getitem__(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            return ""
        if isinstance(value, list):
            return ", ".join(map(str, value))
        text = str(value)
        return text[7:19] + "…" if text.startswith("sha256:") and len(text) == 71 else text
