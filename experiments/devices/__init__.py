"""Devices that were measured: their files, and what is told of them."""
