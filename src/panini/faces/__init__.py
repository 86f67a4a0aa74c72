"""Photo <-> face crop: finding, aligning and blending back. Nothing here knows of the network."""
