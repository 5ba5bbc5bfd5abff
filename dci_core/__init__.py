"""ICO and DCI: teach a diffusion model one concept, then draw it in any scene. Knows no host."""
