"""The networks whose latents are explored."""

from tests.networks import network, network_file, restricted, trained, trained_file, vocabulary

__all__ = ["network", "network_file", "restricted", "trained", "trained_file", "vocabulary"]
