"""Screening: scores of the synthetic images, filters that accept or reject them, and the quality of the kept ones."""
