"""Devices fitted to measured trains of pulses."""
