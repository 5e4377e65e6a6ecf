"""How pictures are seen: each module turns pictures or latents into unit vectors with a gradient."""
