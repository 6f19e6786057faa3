"""Methods that break the one objective; one module of this folder is one method.

A module has a dataclass `Baseline`, built like every part from the config section `baseline`, with

    adapt(model) -> Model    the model of the config with some of its parts replaced

It uses the same generators, inference methods, data, checkpoints and tasks as all models. An
adapted model may have an `objective` of its own; a prior with

    fit(alpha, z, seed) -> alpha    called at the end of training with latent vectors [N, d] that
                                    were inferred from training images

and an inference method with

    tuner(model) -> tune            where tune(parameters, examples) -> phi is called every
                                    `tune_every` steps with `tune_images` training examples
"""
