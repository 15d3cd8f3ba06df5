"""Prompt compressors, one algorithm a file. None ships in this version."""
