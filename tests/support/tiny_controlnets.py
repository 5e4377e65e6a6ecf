"""ControlNets of the host, tiny and with random weights, read by its own loader and wired by its own node.

Import only where the host is importable.
"""

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ldm.flux.controlnet
import comfy.ops
import comfy.supported_models
import host_gradients as gradients
import nodes
import tiny_models
import torch

SIZE = 8  # of the latent


def controlnet(name, seed=5):
    """A ControlNet with the sizes of a tiny model; no weight of it is zero, as a trained one's are not."""
    row = tiny_models.ARCHITECTURES[name]
    config = getattr(comfy.supported_models, row.model)(row.network).unet_config
    config = config | {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32}
    if name == "flux_schnell":
        network = comfy.ldm.flux.controlnet.ControlNetFlux(**config | {"mlp_ratio": 4.0})
    else:
        config["hint_channels"] = config.pop("out_channels") - 1
        network = comfy.cldm.cldm.ControlNet(**config)
    weights = tiny_models.randomise(network, seed).state_dict()
    weights = {key.replace("_norm.weight", "_norm.scale"): value for key, value in weights.items()}
    return comfy.controlnet.load_controlnet_state_dict(weights)


def control_lora(name, seed=5):
    """A Control-LoRA: what the model lacks in full, of other layers a change of low rank, and some just the model's."""
    source, weights = tiny_models.generator(seed), {"lora_controlnet": torch.tensor([])}
    for key, weight in controlnet(name, seed).control_model.state_dict().items():
        if key.startswith(("input_hint_block", "zero_convs", "middle_block_out")):
            weights[key] = weight
        elif weight.ndim > 1 and "in_layers" not in key:
            layer = key.removesuffix(".weight")
            weights[f"{layer}.up"] = torch.randn(len(weight), 2, generator=source) * 0.2
            weights[f"{layer}.down"] = torch.randn(2, weight[0].numel(), generator=source) / weight[0].numel() ** 0.5
    return comfy.controlnet.load_controlnet_state_dict(weights)


def wire(name, pictures=1, batch=3, chain=1, percent=(0.0, 1.0), prompts=None, make=controlnet):
    """Guider and latent as earlier nodes of a graph hand them over."""
    with torch.inference_mode():
        positive, negative = (tiny_models.conditioning(name, seed, prompts or batch) for seed in (0, 1))
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        for link in range(chain):
            source = tiny_models.generator(20 + link)
            image = torch.rand(pictures if link == 0 else 1, SIZE * 8, SIZE * 8, 3, generator=source)
            positive, negative = apply(positive, negative, make(name, 5 + link), image, 0.8, *percent)
        return gradients.guider(tiny_models.model(name), positive, negative, 2.0), tiny_models.latent(
            name, SIZE, SIZE, batch
        )


def control_of(wired):
    return wired.original_conds["positive"][0]["control"]
