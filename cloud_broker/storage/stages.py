"""The stages that a published model goes through."""

from __future__ import annotations

CANDIDATE, CANARY, LIVE, RETIRED = STAGES = ("candidate", "canary", "live", "retired")
