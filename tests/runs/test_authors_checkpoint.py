"""Faults in the authors' checkpoints are named; test_conversion compares the values."""

import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.runs import authors_checkpoint
from tests.authors_networks import SIZES, made_up

STEP = "revnet2d_s.0.revnet2d_step_s."


def without(name):
    def change(networks):
        del networks[name[0]][name[1]]

    return change


def changed(network, name, value):
    def change(networks):
        networks[network][name] = value

    return change


DAMAGES = {
    "no network": (lambda c: c.pop("netG"), "lacks 'epoch', 'netF' or 'netG'"),
    "array instead": (lambda c: c.update(netF=np.zeros(3)), "netF is not a state dict"),
    "epoch": (lambda c: c.update(epoch=-1), "epoch is -1"),
    "empty": (lambda c: c["netF"].clear(), r"netF has no array named revnet2d_s\.0"),
    "missing": (without(("netF", f"{STEP}1.f.fc_2.w")), r"netF\.\S+\.1\.f\.fc_2\.w is missing"),
    "missing step": (
        lambda c: [c["netF"].pop(k) for k in list(c["netF"]) if k.startswith(f"{STEP}0.")],
        r"netF\.\S+\.0\.invertible_1x1_conv\.w is missing",
    ),
    "missing layer": (without(("netG", "gen.3.weight")), r"netG\.gen\.3\.weight is missing"),
    "shape": (
        changed("netF", f"{STEP}2.actnorm.logs", np.zeros((1, 5), np.float32)),
        r"actnorm\.logs has shape \(1, 5\) instead of \(1, 6\)",
    ),
    "layer shape": (
        changed("netG", "gen.3.weight", np.zeros((9, 6, 4, 4), np.float32)),
        r"gen\.3\.weight has shape \(9, 6, 4, 4\) instead of \(8, 6, 4, 4\)",
    ),
    "axes": (
        changed("netG", "gen.0.weight", np.zeros((6, 8), np.float32)),
        r"gen\.0\.weight has shape \(6, 8\), but needs 4 axes",
    ),
    "number": (changed("netG", "gen.0.bias", 3), r"gen\.0\.bias has shape \(\) instead of \(8,\)"),
    "not finite": (
        changed("netG", "gen.0.bias", np.full(8, np.nan, np.float32)),
        r"gen\.0\.bias is not finite",
    ),
    "unknown": (
        changed("netG", "gen.1.weight", np.zeros(8, np.float32)),
        r"netG\.gen\.1\.weight is unknown",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_does_not_fit_is_named(case):
    damage, message = DAMAGES[case]
    checkpoint = made_up(*SIZES["svhn"])
    damage(checkpoint)
    with pytest.raises(UserError, match=rf"^checkpoint\.pth.*{message}") as raised:
        authors_checkpoint.read_state(checkpoint, "checkpoint.pth")
    assert "\n" not in str(raised.value)


def test_an_odd_number_of_latent_dimensions_is_refused():
    with pytest.raises(UserError, match="5 latent dimensions"):
        authors_checkpoint.read_state(made_up(5, *SIZES["svhn"][1:]), "checkpoint.pth")
