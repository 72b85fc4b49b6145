"""Where the weights of pretrained models come from: ``manifest.json``, read by ``imagegs.pretrained``."""
