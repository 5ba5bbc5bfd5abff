"""The evidence: what ICO and DCI do on the small world, against every plain dial, from one command."""
