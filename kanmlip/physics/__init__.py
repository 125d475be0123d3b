"""Whether a potential is physics: crystals, phonons, conserved energy, smoothness at the cutoff, forces that are derivatives."""
