"""What is inside a file, ours or not, damaged or not."""
