"""What a study leaves behind: ``evaluation.json`` (see evaluation.schema.json) and ``evaluation.html``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.findings import Group
from evaluation.page import study_page
from evaluation.study import Study
from evaluation.words import verdict

SCHEMA_VERSION = 2
RESULT_FILE, PAGE_FILE = "evaluation.json", "evaluation.html"


def to_dict(study: Study, groups: Sequence[Group]) -> dict[str, Any]:
    """Plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "data": facts(study),
        "plan": dict(study.plan.to_dict()),
        "groups": [group.to_dict() for group in groups],
        "verdict": [sentence for group in groups for sentence in verdict(group, study.plan)],
    }


def facts(study: Study) -> dict[str, Any]:
    """What the data is, and what was left out of it."""
    data = study.data
    return {
        "name": data.name,
        "synthetic": data.synthetic,
        "digest": data.digest,
        "users": data.users,
        "items": data.items,
        "ratings": len(data),
        "liked": int(data.liked.sum()),
        "duplicates": data.duplicates,
        "features": [column.feature.name for column in data.columns],
        "reading": data.reading.to_dict(),
    }


def write_outcome(study: Study, groups: Sequence[Group], folder: Path) -> tuple[Path, Path]:
    """Write both files and return their paths; the rows are in ``rows/`` already where ``folder`` is the study's."""
    folder.mkdir(parents=True, exist_ok=True)
    result, page = folder / RESULT_FILE, folder / PAGE_FILE
    result.write_text(json.dumps(to_dict(study, groups), indent=2, allow_nan=False) + "\n")
    page.write_text(study_page(study, groups))
    return result, page
