"""The RNN-T loss."""
