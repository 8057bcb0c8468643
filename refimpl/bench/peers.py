"""Peers: modules that time other libraries beside ours. refimpl imports none of them by name.

A peer has

    PACKAGES                                   packages whose versions the results file keeps
    forms(q, k, v, gamma)                      -> a list of `refimpl.bench.forms.Candidate`
    training_steps(config, inputs, targets)    -> a list of them, for the training step of a `TrainConfig`

An installed package announces its peer as an entry point of the group "retnet.bench_peers", as pyproject.toml does for
`gpu.bench.cpu_peers`. One that is not announced, as in a checkout that is not installed, is named on the command line:
`python -m refimpl bench --peer gpu.bench.cpu_peers`.
"""

import importlib
from importlib.metadata import entry_points

GROUP = "retnet.bench_peers"


def load_peers(names=()):
    """(peers, missing): the announced peers and those of `names`, each once; and why others could not be loaded, a line each.

    names: modules; ValueError if one cannot be imported or is no peer.
    """
    peers, missing = [], []
    for entry in entry_points(group=GROUP):
        try:
            peers.append(entry.load())
        except ImportError as error:  # the package is there, and a library that it times is not
            missing.append(f"{entry.value}: {error}")
    for name in names:
        try:
            peer = importlib.import_module(name)
            _ = peer.PACKAGES, peer.forms, peer.training_steps
        except (ImportError, AttributeError) as error:
            raise ValueError(f"peer must be a module as `{__name__}` describes, got {name!r}: {error}") from None
        peers.append(peer)
    if not peers and not missing:
        missing.append("peers: no installed package announces one, and no --peer is given")
    return list(dict.fromkeys(peers)), missing
