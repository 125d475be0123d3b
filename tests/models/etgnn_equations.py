"""ETGNN written down from its equations with every triplet in a list, angles by atan2 and Bessel functions by scipy: slow and plain.

It takes its weights from a network of ours. The network drops triplets, sums over them without listing them and multiplies
parts of matrices before it gathers; here nothing is rearranged.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.special import eval_legendre, spherical_jn
from torch import Tensor
from torch.nn.functional import elu

from kanmlip.models.etgnn.network import ETGNNNetwork

SPECIES = {8: 0, 14: 1}


def edges_of(atoms: Atoms, cutoff: float, count: int) -> list[tuple[int, int, np.ndarray]]:
    """(j, i, r_i − r_j) of each edge j→i: the nearest neighbours of j, for structures without two equal distances."""
    found = []
    for j in range(len(atoms)):
        near = []
        for i, shift in product(range(len(atoms)), product(range(-3, 4), repeat=3)):
            vector = atoms.positions[i] + np.array(shift) @ atoms.cell[:] - atoms.positions[j]
            if 1e-9 < np.linalg.norm(vector) < cutoff:
                near.append((j, i, vector))
        found += sorted(near, key=lambda edge: np.linalg.norm(edge[2]))[:count]
    return found


def radial(network: ETGNNNetwork, d: np.ndarray) -> Tensor:
    """rbf [E, n]."""
    r_c, size = network.radial_basis.cutoff, len(network.radial_basis.order)
    envelope = 0.5 * (1 + np.cos(math.pi * d / r_c))
    return torch.tensor(np.stack([envelope * np.sin(n * math.pi * d / r_c) / d for n in range(1, size + 1)], 1))


def spherical(network: ETGNNNetwork, d: np.ndarray, angle: np.ndarray, zeros: np.ndarray, legacy: bool) -> Tensor:
    """sbf [T, l·n] with the function of l and n at l·size + n."""
    r_c = network.radial_basis.cutoff
    envelope = 0.5 * (1 + np.cos(math.pi * d / (r_c**2 if legacy else r_c)))
    columns = []
    for order, row in enumerate(zeros):
        harmonic = math.sqrt((2 * order + 1) / (4 * math.pi)) * eval_legendre(order, np.cos(angle))
        for z in row:
            norm = math.sqrt(2) / abs(spherical_jn(order + 1, z))
            columns.append(envelope * norm * spherical_jn(order, z * d / r_c) * harmonic)
    return torch.tensor(np.stack(columns, 1))


def scatter(values: Tensor, index: Tensor, size: int) -> Tensor:
    return values.new_zeros(size, *values.shape[1:]).index_add(0, index, values)


def message(block: Any, x: Tensor, rbf: Tensor) -> Tensor:
    return elu(block.down(elu(block.dense(x)) * block.radial(rbf)))


@torch.no_grad()
def born_charges(
    network: ETGNNNetwork, atoms: Atoms, edges: list[tuple[int, int, np.ndarray]], zeros: np.ndarray, name: str, legacy: bool = False
) -> Tensor:
    """Z [N, 3, 3], without the sum rule, in float64."""
    source, target = (torch.tensor([edge[n] for edge in edges]) for n in range(2))
    vectors = np.array([edge[2] for edge in edges])
    d = np.linalg.norm(vectors, axis=1)
    unit = torch.tensor(vectors / d[:, None])
    pairs = [
        (first, second)
        for first, (_, j, one) in enumerate(edges)
        for second, (start, i, two) in enumerate(edges)
        if start == j and not (i == edges[first][0] and np.allclose(one + two, 0, atol=1e-9))
    ]
    first, second = torch.tensor(pairs).T
    a, b = -vectors[second], -vectors[first]
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))
    rbf, sbf = radial(network, d), spherical(network, d[first], angle, zeros, legacy)

    species = network.species(torch.tensor([SPECIES[z] for z in atoms.numbers]))
    embed, triple = network.edge_embedding, network.triplet_embedding
    x = elu(embed.mix(torch.cat([species[target], species[source], elu(embed.radial(rbf))], 1)))
    ends = [species[target[second]], species[source[second]], species[source[first]]]
    t = elu(triple.mix(torch.cat([*ends, elu(triple.radial(rbf))[second], elu(triple.spherical(sbf))], 1)))
    for edge_block, triplet_block in zip(network.edge_updates, network.triplet_updates, strict=True):
        along = message(edge_block.message, x, rbf)[first] * edge_block.spherical(sbf)
        h = edge_block.before_skip(elu(edge_block.dense(x)) + edge_block.up(scatter(along, second, len(edges))))
        x = edge_block.after_skip(elu(edge_block.skip(h)) + x)
        h = triplet_block.up(message(triplet_block.message, x, rbf)[first] * triplet_block.spherical(sbf))
        h = triplet_block.before_gate(h) * triplet_block.gate(rbf)[second]
        t = t + triplet_block.after_gate(elu(triplet_block.dense(t)) + h)

    head = network.heads[name]
    near = torch.tensor((d < head.triplet_range).astype(float))
    of_edges = head.edge(x)[:, :, None] * unit[:, :, None] * unit[:, None, :]
    of_triplets = (head.triplet(t)[:, 0] * near[first] * near[second])[:, None, None] * unit[first][:, :, None] * unit[second][:, None, :]
    return scatter(of_edges, target, len(atoms)) + scatter(of_triplets, target[first], len(atoms))
