"""How a pretrained network gets here: its file, its layout, its input."""
