"""Manifests, audio, tokenizers, augmentation and the input pipeline."""
