"""The training step of LFBM in plain, eager PyTorch: what the benchmark compares with.

Written in PyTorch's usual style: `ConvTranspose2d`, autograd with respect to z alone in
the chain, two Adam optimisers. As a script it is a worker of `lfbm_jax.benchmark`: it reads a
number of steps from every line of its input and answers with the seconds they took.

    python tests/peers/pytorch_lfbm.py '{"latent_dim": 100, ...}'
"""

import json
import math
import resource
import sys
import time

import torch
from torch import nn

LOG_SCALE_FACTOR = 3.0


class ActNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bias = nn.Parameter(0.05 * torch.randn(width))
        self.log_scale = nn.Parameter(0.05 * torch.randn(width))

    def forward(self, h):
        return (h + self.bias) * torch.exp(LOG_SCALE_FACTOR * self.log_scale)


class GlowStep(nn.Module):
    """z -> z0 through actnorm, linear and affine coupling, with its log-determinant."""

    def __init__(self, dim, width):
        super().__init__()
        first, second = dim // 2, dim - dim // 2
        self.first = first
        self.actnorm = ActNorm(dim)
        self.linear = nn.Parameter(torch.linalg.qr(torch.randn(dim, dim))[0])
        self.dense_0 = nn.Linear(first, width, bias=False)
        self.actnorm_0 = ActNorm(width)
        self.dense_1 = nn.Linear(width, width, bias=False)
        self.actnorm_1 = ActNorm(width)
        self.dense_2 = nn.Linear(width, 2 * second)
        self.log_scale = nn.Parameter(torch.zeros(2 * second))
        nn.init.zeros_(self.dense_2.weight)
        nn.init.zeros_(self.dense_2.bias)

    def forward(self, z):
        z = self.actnorm(z) @ self.linear
        first, second = z[:, : self.first], z[:, self.first :]
        h = torch.relu(self.actnorm_0(self.dense_0(first)))
        h = torch.relu(self.actnorm_1(self.dense_1(h)))
        h = self.dense_2(h) * torch.exp(LOG_SCALE_FACTOR * self.log_scale)
        shift, raw = h.chunk(2, dim=1)
        log_scale = nn.functional.logsigmoid(raw + 2.0)
        log_det = (
            log_scale.sum(1)
            + LOG_SCALE_FACTOR * self.actnorm.log_scale.sum()
            + torch.linalg.slogdet(self.linear)[1]
        )
        return torch.cat([first, (second + shift) * torch.exp(log_scale)], dim=1), log_det


class Model(nn.Module):
    """spec: latent_dim, image_shape (H, W, C), layers, sigma, flow_steps, hidden_width."""

    def __init__(self, spec):
        super().__init__()
        self.sigma = spec["sigma"]
        dim, channels, layers = spec["latent_dim"], spec["latent_dim"], []
        for features, kernel, stride, padding in spec["layers"]:
            layers += [nn.ConvTranspose2d(channels, features, kernel, stride, padding)]
            layers += [nn.LeakyReLU(0.2)]
            channels = features
        self.generator = nn.Sequential(*layers[:-1], nn.Tanh())
        self.flow = nn.ModuleList(
            GlowStep(dim, spec["hidden_width"]) for _ in range(spec["flow_steps"])
        )

    def log_prior(self, z):
        """log p(z) of a batch, [B]."""
        total = 0.0
        for step in self.flow:
            z, log_det = step(z)
            total = total + log_det
        return total - 0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def log_likelihood(self, x, z):
        """log p(x|z) of a batch up to its constant, [B]."""
        return -((x - self.generator(z[:, :, None, None])) ** 2).sum((1, 2, 3)) / (
            2 * self.sigma**2
        )

    def load(self, alpha, beta):
        """Takes the parameters of the JAX model, as NumPy arrays."""
        tensor = torch.tensor
        with torch.no_grad():
            for i, layer in enumerate(m for m in self.generator if hasattr(m, "weight")):
                layer.weight.copy_(tensor(beta[f"layer_{i}"]["kernel"]).permute(2, 3, 0, 1))
                layer.bias.copy_(tensor(beta[f"layer_{i}"]["bias"]))
            for i, step in enumerate(self.flow):
                coupling = alpha["coupling"]
                step.linear.copy_(tensor(alpha["linear"][i]))
                step.log_scale.copy_(tensor(coupling["log_scale"][i]))
                step.dense_2.bias.copy_(tensor(coupling["Dense_2"]["bias"][i]))
                for j in range(3):
                    weight = getattr(step, f"dense_{j}").weight
                    weight.copy_(tensor(coupling[f"Dense_{j}"]["kernel"][i]).T)
                for ours, theirs in (
                    (step.actnorm, alpha["actnorm"]),
                    (step.actnorm_0, coupling["actnorm_0"]),
                    (step.actnorm_1, coupling["actnorm_1"]),
                ):
                    ours.bias.copy_(tensor(theirs["bias"][i]))
                    ours.log_scale.copy_(tensor(theirs["log_scale"][i]))


class Trainer:
    """Takes training steps; spec also has num_steps, step_size and both learning rates."""

    def __init__(self, model, spec):
        self.model, self.spec = model, spec
        betas = (spec["b1"], spec["b2"])
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr=rate, betas=betas)
            for part, rate in (
                (model.flow, spec["prior_learning_rate"]),
                (model.generator, spec["generator_learning_rate"]),
            )
        ]

    def infer(self, x, z, noise):
        """The chain from z with the noise of every step, [K, B, d]; gradients for z only."""
        self.model.requires_grad_(False)
        for step_noise in noise:
            z = z.detach().requires_grad_(True)
            log_joint = self.model.log_prior(z) + self.model.log_likelihood(x, z)
            (gradient,) = torch.autograd.grad(log_joint.sum(), z)
            z = z + 0.5 * self.spec["step_size"] ** 2 * gradient
            z = z + self.spec["step_size"] * step_noise
        self.model.requires_grad_(True)
        return z.detach()

    def step(self, x, start=None, noise=None):
        """One iteration of Algorithm 1 on images x [B, C, H, W]; returns the z it inferred."""
        if start is None:
            shape = (len(x), self.spec["latent_dim"])
            start = torch.randn(shape, device=x.device)
            noise = torch.randn((self.spec["num_steps"], *shape), device=x.device)
        z = self.infer(x, start, noise)
        loss = -(self.model.log_prior(z) + self.model.log_likelihood(x, z)).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return z


def main(spec):
    torch.manual_seed(0)
    torch.set_num_threads(spec["threads"])
    allow_tf32 = spec["precision"] == "tensorfloat32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    device = spec["device"]
    trainer = Trainer(Model(spec).to(device), spec)
    if spec["compile"]:
        trainer.model.log_prior = torch.compile(trainer.model.log_prior)
        trainer.model.log_likelihood = torch.compile(trainer.model.log_likelihood)
    height, width, channels = spec["image_shape"]
    x = torch.rand(spec["batch_size"], channels, height, width, device=device) * 2 - 1

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    begin = time.perf_counter()
    trainer.step(x)
    finish()
    print(json.dumps({"first_seconds": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            trainer.step(x)
        finish()
        seconds = time.perf_counter() - begin
        if device == "cuda":
            memory = torch.cuda.max_memory_allocated()
        else:
            memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "peak_memory_bytes": memory}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
