"""What simulating the devices costs: time, memory, compilation."""
