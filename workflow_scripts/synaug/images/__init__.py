"""Encoded images: the codec, reading them from files and tables, hashes, contact sheets."""
