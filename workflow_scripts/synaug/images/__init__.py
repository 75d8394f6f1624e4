"""Encoded images: encoding and decoding, reading them from files and tables, perceptual hashes, contact sheets."""
