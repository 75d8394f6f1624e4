"""Training of the classifiers: stage 1 trains the whole network, stage 2 its last layer."""
