"""Streaming layers: `call` over a whole sequence, `step` over a chunk."""
