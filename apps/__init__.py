"""Applications of imagegs; each stands on the public names of the core and on no other application."""
