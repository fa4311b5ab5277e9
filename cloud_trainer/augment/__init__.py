"""How training samples are altered, one module for each kind of sample."""
