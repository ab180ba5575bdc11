"""A bundle's bill of materials, in CycloneDX's JSON: every wheel, its licence, its digest, and what needs it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from hardware.bundle.archive import epoch_s
from hardware.bundle.boards import Target
from hardware.bundle.lock import EXTRA, INSTALLER
from hardware.bundle.wheel import Wheel

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

# Properties of ours, as CycloneDX asks them to be named.
_PUBLISHED, _TARGET = "coda-edge:published-sha256", "coda-edge:target"


def bill_of_materials(target: Target, own: Wheel, wheels: Sequence[Wheel], published: dict[str, str]) -> str:
    """CycloneDX 1.6 as JSON; the same wheels give the same text.

    Args:
        target: What they are for.
        own: CoDA Edge's wheel.
        wheels: The others.
        published: SHA-256 of what was downloaded, by project; another than the wheel's own where it was trimmed.
    """
    from cyclonedx.model import Property  # noqa: PLC0415 - takes long, and is needed only here
    from cyclonedx.model.bom import Bom, BomMetaData  # noqa: PLC0415
    from cyclonedx.output import make_outputter  # noqa: PLC0415
    from cyclonedx.schema import OutputFormat, SchemaVersion  # noqa: PLC0415

    components = {wheel.name: _component(wheel, published.get(wheel.name)) for wheel in (own, *wheels)}
    root = components.pop(own.name)
    digests = "\n".join(sorted(wheel.sha256 for wheel in (own, *wheels)))
    metadata = BomMetaData(
        component=root,
        timestamp=datetime.fromtimestamp(epoch_s(), timezone.utc),
        properties=[Property(name=_TARGET, value=target.name)],
    )
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{target.name}\n{digests}")
    bom = Bom(components=components.values(), serial_number=serial, metadata=metadata)
    for wheel in (own, *wheels):
        needed = {canonicalize_name(one.name) for one in wheel.needs(target, EXTRA if wheel is own else "")}
        named = [components[name] for name in sorted(needed) if name in components]
        bom.register_dependency(root if wheel is own else components[wheel.name], named)
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)) + "\n"


def _component(wheel: Wheel, published: str | None) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory  # noqa: PLC0415
    from cyclonedx.model import HashAlgorithm, HashType, Property  # noqa: PLC0415
    from cyclonedx.model.component import Component, ComponentScope, ComponentType, Pedigree  # noqa: PLC0415
    from packageurl import PackageURL  # noqa: PLC0415

    trimmed = published not in (None, wheel.sha256)
    purl = PackageURL("pypi", name=wheel.name, version=wheel.version)
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY if published else ComponentType.APPLICATION,
        bom_ref=purl.to_string(),
        purl=purl,
        scope=ComponentScope.EXCLUDED if wheel.name == INSTALLER else ComponentScope.REQUIRED,
        licenses=[LicenseFactory().make_from_string(wheel.licence)] if wheel.licence else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        properties=[Property(name=_PUBLISHED, value=published)] if published else [],
        pedigree=Pedigree(notes="Tests, headers, symbols and unused backends left out.") if trimmed else None,
    )
