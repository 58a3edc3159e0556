"""Every projection, and the driver that folds them all."""

from __future__ import annotations

from muniment.projections.access import ACCESS
from muniment.projections.base import Simple
from muniment.projections.builds import BUILDS
from muniment.projections.evidence import EVIDENCE
from muniment.projections.fold import Driver
from muniment.projections.incidents import INCIDENTS
from muniment.projections.packs import PACKS
from muniment.projections.releases import RELEASES
from muniment.projections.runtime import RUNTIME
from muniment.projections.slots import SLOTS
from muniment.projections.timeline import TIMELINE

ALL: tuple[Simple, ...] = (ACCESS, BUILDS, EVIDENCE, INCIDENTS, PACKS, RELEASES, RUNTIME, SLOTS, TIMELINE)
BY_NAME = {projection.name: projection for projection in ALL}
VERSIONS = {projection.name: projection.version for projection in ALL}
DRIVER = Driver(ALL)
