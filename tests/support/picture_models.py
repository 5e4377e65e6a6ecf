"""A tiny model of every class with which the host samples pictures: see `architectures`."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams
from tiny_models import CONTEXT, FLUX, POOLED, SDXL_SIZES, TOKENS, UNET, Architecture
from torch import Tensor

POOL = {"pooled_output": (POOLED,)}
LATENT, WIDE = (16, 4, 4), (128, 2, 2)
SINGLE = (16, 1, 4, 4)  # a picture as a video of one frame

LABELLED = UNET | {"num_classes": "sequential"}
FLUX_2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "axes_dim": [32] * 4,
    "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True, "ops_bias": False, "qkv_bias": False,
    "guidance_embed": True, "vec_in_dim": None,
}  # fmt: skip
CHROMA = {key: FLUX[key] for key in FLUX if key != "guidance_embed"} | {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 128, "hidden_dim": 32,
    "n_layers": 1,
}  # fmt: skip
HUNYUAN_DIT = {
    "image_model": "hydit", "hidden_size": 64, "depth": 4, "num_heads": 2, "text_states_dim": CONTEXT,
    "text_states_dim_t5": 24, "text_len": TOKENS, "text_len_t5": 5,
}  # fmt: skip
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 72, "n_layers": 1, "n_refiner_layers": 1,
    "n_heads": 1, "n_kv_heads": 1, "qk_norm": True, "cap_feat_dim": CONTEXT, "axes_dims": [24, 24, 24],
    "axes_lens": [300, 512, 512], "multiple_of": 32,
}  # fmt: skip
Z_IMAGE = LUMINA | {
    "dim": 256, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    "time_scale": 1000.0, "z_image_modulation": True, "pad_tokens_multiple": 32, "ffn_dim_multiplier": 1.0,
    "rope_theta": 256.0,
}  # fmt: skip
PIXEL_DIT = {
    "hidden_size": 64, "num_groups": 2, "pixel_hidden_size": 8, "pixel_attn_hidden_size": 32, "pixel_num_groups": 2,
    "patch_depth": 2, "pixel_depth": 1, "patch_size": 4, "txt_embed_dim": CONTEXT, "txt_max_length": TOKENS,
}  # fmt: skip
OMNIGEN = {
    "image_model": "omnigen2", "hidden_size": 96, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 2,
    "num_kv_heads": 1, "multiple_of": 32, "axes_dim_rope": [16, 16, 16], "axes_lens": [64, 64, 64],
    "timestep_scale": 1000.0,
}  # fmt: skip
PREDICT_2 = {
    "image_model": "cosmos_predict2", "max_img_h": 16, "max_img_w": 16, "max_frames": 16, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 64, "concat_padding_mask": True,
    "num_blocks": 1, "num_heads": 2, "crossattn_emb_channels": CONTEXT, "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop", "pos_emb_learnable": True, "min_fps": 1, "max_fps": 30, "use_adaln_lora": True,
    "adaln_lora_dim": 8, "extra_per_block_abs_pos_emb": False, "rope_enable_fps_modulation": False,
}  # fmt: skip
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "patch_size": [1, 2, 2], "out_channels": 16,
    "vec_in_dim": POOLED, "axes_dim": [16, 56, 56], "meanflow": False, "context_in_dim": CONTEXT, "hidden_size": 128,
    "mlp_ratio": 2.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True,
    "byt5": False, "guidance_embed": True, "use_cond_type_embedding": False, "vision_in_dim": None,
    "meanflow_sum": False,
}  # fmt: skip
KANDINSKY = {
    "image_model": "kandinsky5", "in_text_dim": CONTEXT, "in_text_dim2": POOLED, "time_dim": 32, "model_dim": 64,
    "ff_dim": 64, "visual_embed_dim": 132, "num_text_blocks": 1, "num_visual_blocks": 1,
}  # fmt: skip
QWEN_VL = {
    "vocab_size": 151936, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "rope_dims": [4, 2, 2],
}  # fmt: skip
QWEN_EYE = {
    "hidden_size": 16, "num_heads": 1, "intermediate_size": 16, "depth": 1, "num_position_embeddings": 16,
    "deepstack_visual_indexes": (),
}  # fmt: skip


def mask(length: int, padding: int = 0):
    """The attention mask of a prompt whose last tokens are padding."""
    return lambda batch, source: (torch.arange(length) < length - padding).long()[None]


def tokens(batch: int, source: torch.Generator) -> Tensor:
    return torch.randint(0, 50, (1, TOKENS), generator=source)


HUNYUAN_TEXT = {
    "attention_mask": mask(TOKENS, 2), "conditioning_mt5xl": (5, 24), "attention_mask_mt5xl": mask(5, 1),
}  # fmt: skip
ROWS = (
    Architecture("SD15", UNET | {"use_linear_in_transformer": False}, (4, 4, 4)),
    Architecture(
        "SD15_instructpix2pix", UNET | {"use_linear_in_transformer": False, "in_channels": 8}, (4, 4, 4)
    ),
    Architecture("SD20", UNET, (4, 4, 4)),
    Architecture("SD21UnclipL", LABELLED | {"adm_in_channels": 1536}, (4, 4, 4)),
    Architecture("SDXL", LABELLED | {"adm_in_channels": POOLED + SDXL_SIZES}, (4, 4, 4), extras=POOL),
    Architecture(
        "SDXL_instructpix2pix", LABELLED | {"in_channels": 8, "adm_in_channels": POOLED + SDXL_SIZES}, (4, 4, 4),
        extras=POOL,
    ),
    Architecture("SDXLRefiner", LABELLED | {"adm_in_channels": POOLED + 5 * 256}, (4, 4, 4), extras=POOL),
    Architecture("LotusD", UNET | {"adm_in_channels": 4}, (4, 4, 4)),
    Architecture(
        "Stable_Zero123", UNET | {"use_linear_in_transformer": False, "in_channels": 8}, (4, 4, 4), context=CONTEXT + 4,
        checkpoint={"cc_projection.weight": (CONTEXT, CONTEXT + 4), "cc_projection.bias": (CONTEXT,)},
    ),
    Architecture(
        "SD_X4Upscaler",
        UNET
        | {
            "in_channels": 7, "num_classes": 1000, "channel_mult": [1, 1, 1, 2], "num_res_blocks": [1] * 4,
            "transformer_depth": [0, 1, 0, 1], "transformer_depth_output": [0, 0, 1, 1, 0, 0, 1, 1],
        },
        (4, 16, 16),
    ),
    Architecture(
        "Stable_Cascade_C",
        {
            "stable_cascade_stage": "c", "c_cond": 64, "c_hidden": [64, 64], "nhead": [2, 2],
            "blocks": [[1, 1], [1, 1]], "c_r": 16, "c_clip_text": CONTEXT, "c_clip_text_pooled": POOLED,
        },
        LATENT, extras={"pooled_output": (1, POOLED)},
    ),
    Architecture(
        "Stable_Cascade_B",
        {
            "stable_cascade_stage": "b", "c_cond": 64, "c_hidden": [32, 32, 64, 64], "nhead": [-1, -1, 2, 2],
            "blocks": [[1] * 4] * 2, "block_repeat": [[1] * 4] * 2, "c_r": 16, "c_clip": POOLED,
        },
        (4, 16, 16), extras={"pooled_output": (1, POOLED), "stable_cascade_prior": (16, 2, 2)},
    ),
    Architecture(
        "SD3",
        {
            "in_channels": 16, "pos_embed_scaling_factor": None, "depth": 2, "input_size": None, "patch_size": 2,
            "out_channels": 16, "adm_in_channels": POOLED, "num_patches": 64 * 64, "pos_embed_max_size": 64,
            "qk_norm": "rms", "x_block_self_attn_layers": [0],
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": CONTEXT, "out_features": 128},
            },
        },
        LATENT, extras=POOL,
    ),
    Architecture(
        "AuraFlow",
        {
            "dim": 64, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 32,
            "cond_seq_dim": CONTEXT, "max_seq": 16,
        },
        (4, 4, 4),
    ),
    Architecture(
        "PixArtAlpha",
        {
            "image_model": "pixart_alpha", "input_size": 64, "hidden_size": 48, "depth": 1, "num_heads": 2,
            "caption_channels": CONTEXT, "micro_condition": True, "pe_interpolation": 0.5, "model_max_length": TOKENS,
        },
        (4, 34, 34), extras={"width": 272, "height": 272},
        special="positions are those of 64 rounded: a latent of 33 at least; attention is called without options",
    ),
    Architecture(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma", "input_size": 64, "hidden_size": 64, "depth": 1, "num_heads": 2,
            "caption_channels": CONTEXT, "micro_condition": False, "pe_interpolation": 0.5, "model_max_length": TOKENS,
        },
        (4, 34, 34),
    ),
    Architecture(
        "HunyuanDiT", HUNYUAN_DIT, (4, 4, 4), extras=HUNYUAN_TEXT,
        special="pads its text in place and looks at it by strides; attention is called without options",
    ),
    Architecture(
        "HunyuanDiT1", HUNYUAN_DIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}, (4, 4, 4),
        extras=HUNYUAN_TEXT,
    ),
    Architecture(
        "Flux", FLUX | {"guidance_embed": True}, LATENT, extras=POOL, special="the residual stream is written in place"
    ),
    Architecture(
        "FluxInpaint", FLUX | {"guidance_embed": True, "in_channels": 96}, LATENT, extras=POOL
    ),
    Architecture("FluxSchnell", FLUX, LATENT, extras=POOL),
    Architecture("LongCatImage", FLUX | {"vec_in_dim": None, "txt_ids_dims": [1, 2]}, LATENT),
    Architecture("Flux2", FLUX_2, WIDE, special="prompts are padded to 512 tokens"),
    Architecture(
        "Lens",
        {
            "image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 1, "num_attention_heads": 1,
            "enc_hidden_dim": CONTEXT // 2, "selected_layer_index": (0, 1),
        },
        WIDE, extras={"attention_mask": mask(TOKENS, 2)}, special="its MLP works in place",
    ),
    Architecture(
        "HunyuanImage21",
        HUNYUAN
        | {
            "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [64, 64], "vec_in_dim": None,
            "byt5": True, "guidance_embed": False,
        },
        (64, 2, 2), extras={"conditioning_byt5small": (3, 8)},
        smaller={"comfy.ldm.hunyuan_video.model.ByT5Mapper": {"in_dim": 8, "out_dim": 8, "hidden_dim": 8}},
    ),
    Architecture(
        "HunyuanImage21Refiner",
        HUNYUAN
        | {
            "in_channels": 128, "out_channels": 64, "patch_size": [1, 1, 1], "vec_in_dim": None, "meanflow": True,
            "guidance_embed": False,
        },
        (64, 1, 2, 2),
    ),
    Architecture(
        "CosmosT2IPredict2", PREDICT_2, SINGLE, special="calls a fused operation of comfy_kitchen in training, too"
    ),
    Architecture(
        "Anima", PREDICT_2 | {"image_model": "anima"}, SINGLE,
        extras={
            "t5xxl_ids": lambda batch, source: tokens(batch, source)[0],
            "t5xxl_weights": lambda batch, source: torch.rand(TOKENS, generator=source),
        },
        smaller={
            "comfy.ldm.anima.model.LLMAdapter": {
                "source_dim": CONTEXT, "target_dim": CONTEXT, "model_dim": CONTEXT, "num_layers": 1, "num_heads": 2,
            },
        },
        one_prompt=True,
        special="adapts its prompt once in inference mode, else in each call; the adapter's attention is torch's own",
    ),
    Architecture("Lumina2", LUMINA, LATENT),
    Architecture("ZImage", Z_IMAGE, LATENT, special="pads prompt and picture with learnt tokens"),
    Architecture(
        "ZImagePixelSpace",
        Z_IMAGE
        | {
            "image_model": "zimage_pixel", "patch_size": 4, "in_channels": 3, "decoder_in_channels": 48,
            "decoder_hidden_size": 32, "decoder_num_res_blocks": 1, "decoder_max_freqs": 2,
        },
        (3, 8, 8),
    ),
    Architecture(
        "PixelDiTT2I", PIXEL_DIT | {"image_model": "pixeldit_t2i"}, (3, 8, 8), special="scales and shifts in place"
    ),
    Architecture(
        "PiD",
        PIXEL_DIT
        | {
            "image_model": "pid", "lq_latent_channels": 4, "lq_hidden_dim": 8, "lq_num_res_blocks": 1,
            "latent_spatial_down_factor": 8,
        },
        (3, 32, 32),
        extras={"lq_latent": (4, 1, 1), "degrade_sigma": lambda batch, source: torch.tensor([0.3])},
    ),
    Architecture(
        "HiDream",
        {
            "image_model": "hidream", "attention_head_dim": 128, "axes_dims_rope": [64, 32, 32],
            "caption_channels": [CONTEXT, CONTEXT], "max_resolution": [16, 16], "in_channels": 16,
            "llama_layers": [0, 1], "num_attention_heads": 1, "num_routed_experts": 4, "num_activated_experts": 2,
            "num_layers": 1, "num_single_layers": 1, "out_channels": 16, "patch_size": 2, "text_emb_dim": POOLED,
        },
        LATENT, extras=POOL | {"conditioning_llama3": (2, TOKENS, CONTEXT)},
        special="experts are chosen token by token: the gradient is that of the choice as it stands",
    ),
    Architecture(
        "HiDreamO1",
        {"image_model": "hidream_o1", "text_config_overrides": QWEN_VL, "vision_config_overrides": QWEN_EYE},
        (3, 64, 64), context=1, extras={"text_input_ids": tokens},
        special="layers write to an out=; keys and values of the prompt are kept from call to call",
    ),
    Architecture("Chroma", CHROMA, LATENT),
    Architecture(
        "ChromaRadiance",
        CHROMA
        | {
            "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 4,
            "nerf_hidden_size": 16, "nerf_mlp_ratio": 2, "nerf_depth": 1, "nerf_max_freqs": 4, "nerf_tile_size": 2,
            "nerf_final_head_type": "conv", "nerf_embedder_dtype": torch.float32, "use_x0": True,
        }
        | dict.fromkeys({"use_sequential_txt_ids"} & ChromaRadianceParams.__dataclass_fields__.keys(), True),
        (3, 8, 8),
    ),
    Architecture(
        "Omnigen2", OMNIGEN | {"text_feat_dim": CONTEXT}, LATENT, extras={"attention_mask": mask(TOKENS)},
        special="writes the number of a reference into its tokens in place",
    ),
    Architecture(
        "Boogu", OMNIGEN | {"image_model": "boogu", "num_double_stream_layers": 1, "instruction_feat_dim": CONTEXT},
        LATENT, extras={"attention_mask": mask(TOKENS)},
    ),
    Architecture(
        "MageFlow",
        {
            "image_model": "mage_flow", "in_channels": 128, "num_layers": 1, "num_attention_heads": 1,
            "joint_attention_dim": CONTEXT,
        },
        WIDE, special="rounds its timestep to bfloat16",
    ),
    Architecture(
        "QwenImage",
        {
            "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 1,
            "num_attention_heads": 1, "joint_attention_dim": CONTEXT,
        },
        SINGLE,
    ),
    Architecture(
        "JoyImage",
        {
            "image_model": "joyimage", "in_channels": 16, "hidden_size": 128, "patch_size": [1, 2, 2], "num_layers": 1,
            "num_attention_heads": 1, "text_dim": CONTEXT,
        },
        SINGLE, special="calls a fused operation of comfy_kitchen in training, too",
    ),
    Architecture(
        "Ideogram4",
        {
            "image_model": "ideogram4", "in_channels": 128, "num_layers": 1, "num_attention_heads": 2,
            "attention_head_dim": 16, "intermediate_size": 32, "adaln_dim": 8, "llm_features_dim": CONTEXT,
            "mrope_section": [4, 2, 2],
        },
        WIDE, extras={"attention_mask": mask(TOKENS, 2)}, special="fills its sequence in place",
    ),
    Architecture(
        "Krea2",
        {
            "image_model": "krea2", "features": 64, "tdim": 32, "txtdim": CONTEXT // 2, "heads": 2, "kvheads": 1,
            "multiplier": 1, "layers": 1, "txtlayers": 2, "txtheads": 1, "txtkvheads": 1,
        },
        SINGLE, special="its MLP works in place; with a reference, its norms are written in place",
    ),
    Architecture("Kandinsky5Image", KANDINSKY | {"visual_embed_dim": 64}, LATENT, extras=POOL),
    Architecture(
        "ErnieImage",
        {
            "image_model": "ernie", "hidden_size": 128, "num_attention_heads": 1, "num_layers": 1,
            "ffn_hidden_size": 128, "text_in_dim": CONTEXT,
        },
        WIDE,
        special="calls a fused operation of comfy_kitchen in training, too; attention is called without options",
    ),
)  # fmt: skip


EDITING = {"Flux", "Flux2", "ZImage", "HiDreamO1", "Omnigen2", "Boogu", "MageFlow", "QwenImage", "JoyImage", "Krea2"}
AT_ZERO = {"QwenImage", "Krea2"}  # may take the timestep of a reference for 0


def with_reference(row: Architecture) -> Architecture:
    """A row with a reference picture for each sample."""
    picture = {"HiDreamO1": (64, 64, 3)}.get(row.model, row.latent)
    method = {"reference_latents_method": "index_timestep_zero"} if row.model in AT_ZERO else {}
    return replace(row, extras=row.extras | {"reference_latents": [picture]} | method, special="")
