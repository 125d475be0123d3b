"""Pictures of runs and simulations, each as PNG and SVG."""
