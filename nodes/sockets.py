"""Our socket types; what travels through them is in `host/plan.py` and the core."""

from __future__ import annotations

from comfy_api.latest import io

Concept = io.Custom("ICO_CONCEPT")
Plan = io.Custom("DCI_PLAN")
Layers = io.Custom("DBIM_LAYERS")
Record = io.Custom("DBIM_RECORD")
Adapter = io.Custom("DYNAIP_ADAPTER")
Readings = io.Custom("DYNAIP_RECORD")
