"""Bake one person's face-swap network and export it to phones, with proof that it matches PyTorch."""

__version__ = "0.1.0"
