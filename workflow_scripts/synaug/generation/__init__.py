"""From the rows of the plan to shards of images."""
