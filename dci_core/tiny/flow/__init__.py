"""The tiny MM-DiT world: a transformer of the Flux layout over the small world's latents and text encoder."""
