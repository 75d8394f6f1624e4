"""Step plan: images per cell, their prompts, one row per wanted image, its shard, the cost estimate and the preview."""
