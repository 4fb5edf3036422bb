"""The proof: what the file's kernels compute against what training computed."""
