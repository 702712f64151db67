"""The networks whose latents are explored."""

from tests.networks import network, network_file, restricted, taught, taught_file, vocabulary

__all__ = ["network", "network_file", "restricted", "taught", "taught_file", "vocabulary"]
