"""The networks that films are sampled from."""

from tests.networks import network, network_file, restricted, trained, trained_file, vocabulary

__all__ = ["network", "network_file", "restricted", "trained", "trained_file", "vocabulary"]
