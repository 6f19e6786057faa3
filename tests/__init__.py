"""A package, because torch-fidelity installs one of the same name, which would hide a folder."""
