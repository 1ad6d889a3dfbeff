"""How the weights of a new network start. What else was tried is in docs/results.md, under Initialisation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def initialise_network(network: nn.Module, position_embedding: Tensor) -> None:
    """Draws the weights with which a training of a network starts.

    Linear layers keep PyTorch's defaults, uniform within 1 / sqrt(fan_in), except that the last one of each residual
    branch is smaller. Convolutions are He's. In short trainings of larger networks this was better than PyTorch's
    defaults everywhere, which the public code has, and elsewhere about level (docs/results.md).
    """
    initialise_position_embedding(position_embedding)
    initialise_convolutions(network)
    scale_branch_outputs(network)


def initialise_position_embedding(embedding: Tensor) -> None:
    """Draws a position embedding from a cut normal distribution of standard deviation 0.02, as in ViT and DeiT."""
    nn.init.trunc_normal_(embedding, std=0.02)


def initialise_convolutions(network: nn.Module) -> None:
    """Draws all convolutions of a network or of a stem. A ReLU follows those that a stem calls `convs`."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            initialise_convolution(module, precedes_relu="convs" in name.split("."))


def initialise_convolution(convolution: nn.Conv2d, precedes_relu: bool) -> None:
    """Draws a convolution that keeps the variance of what passes through it (He et al., 2015), with biases of 0.

    Before a ReLU that is the variance of gradients (mode fan_out), elsewhere that of features.
    """
    if precedes_relu:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="linear")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def scale_branch_outputs(network: nn.Module) -> None:
    """Divides the weights that end residual branches by the root of the number of these layers.

    Then the sum of all branches starts as large as one of them would be, however deep the network is (GPT-2 does the
    same: Radford et al., 2019, section 2.3). A shared layer counts once, however often it is applied.
    """
    layers = list(branch_outputs(network))
    for layer in layers:
        layer.weight.detach().mul_(len(layers) ** -0.5)


def branch_outputs(network: nn.Module) -> Iterator[nn.Linear]:
    """Yields the last linear layer of every residual branch: of each attention, MLP and NLL."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("attn.proj", "mlp.fc2")):
            yield module
