"""The networks that films are sampled from."""

from tests.networks import network, network_file, restricted, taught, taught_file, vocabulary

__all__ = ["network", "network_file", "restricted", "taught", "taught_file", "vocabulary"]
