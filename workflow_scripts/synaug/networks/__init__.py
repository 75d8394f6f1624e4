"""Networks: small residual ones, those of torchvision and timm, and their files."""
