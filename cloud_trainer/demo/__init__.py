"""The demo: the whole loop on one machine, on real digits, with real processes and a real broker."""
