"""Stage 1 (the whole network) and stage 2 (its last layer)."""
