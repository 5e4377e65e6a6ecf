"""Test-only nodes: the tiny models as MODEL, CONDITIONING, VAE, LATENT and CLIP_VISION, and the files of the others.

Models live as long as the server, as loaded ones do: what a graph breaks in them, the next graph finds broken.
"""

import functools
import importlib.util
import sys
import zlib
from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import ComfyExtension, io


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[2] / "support" / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_models, tiny_networks = load("tiny_models"), load("tiny_networks")
model = functools.cache(tiny_models.model)
vae = functools.cache(tiny_models.vae)
clip_vision = functools.cache(tiny_networks.clip_vision)


def architecture() -> io.Combo.Input:
    return io.Combo.Input("architecture", options=list(tiny_models.ARCHITECTURES))


class TinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema("TinyModel", category="tiny", inputs=[architecture()], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, architecture):
        return io.NodeOutput(model(architecture).clone())


class TinyConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        inputs = [architecture(), io.Int.Input("seed", default=0), io.Int.Input("batch", default=1)]
        inputs.append(io.String.Input("text", default="", optional=True))
        return io.Schema("TinyConditioning", category="tiny", inputs=inputs, outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, architecture, seed, batch, text=""):
        return io.NodeOutput(tiny_models.conditioning(architecture, seed + zlib.crc32(text.encode()), batch))


class TinyVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        inputs = [io.Int.Input("channels", default=4)]
        return io.Schema("TinyVAE", category="tiny", inputs=inputs, outputs=[io.Vae.Output()])

    @classmethod
    def execute(cls, channels):
        return io.NodeOutput(vae(channels))


class TinyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        sizes = [io.Int.Input(name, default=default) for name, default in (("height", 8), ("width", 8), ("batch", 1))]
        return io.Schema("TinyLatent", category="tiny", inputs=[architecture(), *sizes], outputs=[io.Latent.Output()])

    @classmethod
    def execute(cls, architecture, height, width, batch):
        return io.NodeOutput(tiny_models.latent(architecture, height, width, batch))


class TinyCLIPVision(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema("TinyCLIPVision", category="tiny", inputs=[], outputs=[io.ClipVision.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(clip_vision())


class TinyNetworks(io.ComfyNode):
    """Once run, the pack finds the weights of every network that its objectives look through."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TinyNetworks", category="tiny", inputs=[], outputs=[], is_output_node=True)

    @classmethod
    def execute(cls):
        tiny_networks.install(Path(folder_paths.models_dir, "noise_optimize"))
        return io.NodeOutput()


class TinyFailure(io.ComfyNode):
    """Fails with a sentence, as nodes of other packs do."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TinyFailure", category="tiny", inputs=[], outputs=[], is_output_node=True)

    @classmethod
    def execute(cls):
        raise ValueError("Choose another.")


class TinyExtension(ComfyExtension):
    async def get_node_list(self):
        return [TinyModel, TinyConditioning, TinyVAE, TinyLatent, TinyCLIPVision, TinyNetworks, TinyFailure]


async def comfy_entrypoint():
    return TinyExtension()
