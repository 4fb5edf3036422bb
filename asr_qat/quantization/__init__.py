"""Quantized arithmetic: specs and policies, integers, the native product, product objects."""
