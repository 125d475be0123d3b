"""One adapter a model: upstream packages as potentials."""
