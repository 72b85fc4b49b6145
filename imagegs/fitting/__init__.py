"""From a picture to Gaussians: targets, start, optimisation, growth. The default path runs without torch."""
