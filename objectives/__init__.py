"""What makes a set of pictures good and different, in plain torch: no module here imports ComfyUI."""
