"""MobileFSGAN: the generator, its identity encoder, and one person's network.

Source: Yu et al., "Migrating Face Swap to Mobile Devices: A lightweight Framework and A Supervised Training Solution", ICME 2022,
and the authors' repository.  Parameter names follow their modules, so that a state dict loads without a map.
"""
