"""Configurations, encoder, prediction networks and the transducer."""
