"""Study B on a real checkpoint: a running ComfyUI trains and draws, encoders in folders judge."""
