"""A package, since torch-fidelity installs one of this name, which would hide a plain folder."""
