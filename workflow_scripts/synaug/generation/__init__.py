"""Step generation: load a diffusion model, sample the planned images, encode them and pack them into shards."""
