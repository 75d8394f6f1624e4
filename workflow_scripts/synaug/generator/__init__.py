"""Step generator: training a small text-to-image model from scratch on labelled images."""
