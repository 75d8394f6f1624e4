"""Step plan: targets, prompts, the row of every wanted image, its shard, the cost estimate and the preview."""
