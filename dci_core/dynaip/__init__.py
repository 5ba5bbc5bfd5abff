"""Image prompts for MM-DiT models (DynaIP): pictures of a subject, read beside the joint attention."""
