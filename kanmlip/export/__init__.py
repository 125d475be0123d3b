"""From a run folder to other programs: ASE, LAMMPS, TorchSim, and upstream's own file formats."""
