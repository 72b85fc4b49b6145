"""Semantics-aware compression: what a picture is about decides where Gaussians and bits go."""
