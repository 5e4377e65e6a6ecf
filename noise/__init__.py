"""Noise and gradients in plain torch: no module here imports ComfyUI."""
