"""The report: one self-contained page from the manifests."""
