"""ICO and DCI measured on the small flow world: its gates, the dials, the choice of its defaults."""
