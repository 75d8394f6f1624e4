"""The classifiers: small residual networks, networks of torchvision and timm, and the files that store them."""
