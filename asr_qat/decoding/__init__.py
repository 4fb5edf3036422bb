"""Greedy transducer search."""
