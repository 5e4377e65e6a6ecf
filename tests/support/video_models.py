"""A tiny model of every class with which the host samples video: see `architectures`."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from picture_models import HUNYUAN, KANDINSKY, LABELLED, POOL, PREDICT_2, mask
from tiny_models import CONTEXT, TOKENS, Architecture

VIDEO, FRAME = (16, 2, 4, 4), (16, 1, 4, 4)
FACE = 1280  # features of the host's CLIP vision, which Wan models take as they are

STABLE_VIDEO = LABELLED | {
    "in_channels": 8, "use_temporal_attention": True, "use_temporal_resblock": True, "extra_ff_mix_layer": True,
    "use_spatial_context": True, "merge_strategy": "learned_with_images", "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1],
}  # fmt: skip
OF_PREDICT_2 = ("min_fps", "max_fps", "rope_enable_fps_modulation")
COSMOS = {key: value for key, value in PREDICT_2.items() if key not in OF_PREDICT_2} | {
    "image_model": "cosmos", "block_config": "FA-CA-MLP", "block_x_format": "THWBD", "affline_emb_norm": True,
    "pos_emb_learnable": False, "extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable",
}  # fmt: skip
HUNYUAN_15 = HUNYUAN | {
    "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None, "guidance_embed": False,
    "vision_in_dim": 24, "meanflow_sum": True, "use_cond_type_embedding": True,
}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 128, "ffn_dim": 128, "freq_dim": 32, "num_heads": 1,
    "num_layers": 1, "text_dim": CONTEXT, "in_dim": 16, "out_dim": 16,
}  # fmt: skip
COGVIDEO = {
    "image_model": "cogvideox", "num_attention_heads": 1, "attention_head_dim": 64, "time_embed_dim": 16,
    "num_layers": 1, "in_channels": 16, "patch_size": 2, "text_embed_dim": CONTEXT,
    "use_rotary_positional_embeddings": True, "max_text_seq_length": TOKENS, "sample_width": 8, "sample_height": 8,
    "sample_frames": 9,
}  # fmt: skip


def vision(tokens: int, width: int):
    """The features of a picture, as CLIP Vision Encode gives them."""

    def features(batch: int, source: torch.Generator) -> SimpleNamespace:
        values = torch.randn(batch, tokens, width, generator=source)
        return SimpleNamespace(penultimate_hidden_states=values, last_hidden_state=values)

    return features


POSE = {"pose_video_latent": (16, 2, 2, 2), "reference_latents": [FRAME]}
ROWS = (
    Architecture(
        "SVD_img2vid", STABLE_VIDEO | {"adm_in_channels": 768}, (4, 4, 4),
        special="the batch is the frames of one video: never cut, and no part of it made alone",
    ),
    Architecture("SV3D_u", STABLE_VIDEO | {"adm_in_channels": 256}, (4, 4, 4), special="as SVD_img2vid"),
    Architecture("SV3D_p", STABLE_VIDEO | {"adm_in_channels": 1280}, (4, 4, 4), special="as SVD_img2vid"),
    Architecture(
        "GenmoMochi",
        {
            "image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 2, "hidden_size_x": 64,
            "hidden_size_y": 32, "mlp_ratio_x": 192.0, "mlp_ratio_y": 2.0, "learn_sigma": False, "in_channels": 12,
            "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True,
            "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False,
            "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": CONTEXT, "t5_token_length": TOKENS,
            "rope_theta": 10000.0,
        },
        (12, 2, 4, 4), extras={"attention_mask": mask(TOKENS)},
    ),
    Architecture(
        "LTXV",
        {
            "image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 64, "attention_head_dim": 32,
            "num_attention_heads": 2, "caption_channels": CONTEXT, "num_layers": 2,
        },
        (128, 2, 2, 2), extras={"attention_mask": mask(TOKENS)}, special="the residual stream is written in place",
    ),
    Architecture("HunyuanVideo", HUNYUAN, VIDEO, extras=POOL),
    Architecture(
        "HunyuanVideoI2V", HUNYUAN | {"in_channels": 33, "guidance_embed": False}, VIDEO,
        extras=POOL | {"guiding_frame_index": 0},
    ),
    Architecture(
        "HunyuanVideoSkyreelsI2V", HUNYUAN | {"in_channels": 32}, VIDEO, extras=POOL
    ),
    Architecture(
        "HunyuanVideo15", HUNYUAN_15, (32, 2, 2, 2),
        extras={"pooled_output": None, "clip_vision_output": vision(3, 24)},
    ),
    Architecture(
        "HunyuanVideo15_SR_Distilled", HUNYUAN_15 | {"in_channels": 98, "meanflow": True}, (32, 2, 2, 2),
        extras={"pooled_output": None},
    ),
    Architecture("CosmosT2V", COSMOS, VIDEO, special="the residual stream is written in place"),
    Architecture("CosmosI2V", COSMOS | {"in_channels": 17}, VIDEO),
    Architecture("CosmosI2VPredict2", PREDICT_2 | {"in_channels": 17}, VIDEO),
    Architecture("WAN21_T2V", WAN, VIDEO),
    Architecture(
        "WAN21_CausalAR_T2V", WAN, VIDEO, special="its own sampler, ar_video, keeps a cache: refused; others do not"
    ),
    Architecture(
        "WAN21_I2V", WAN | {"model_type": "i2v", "in_dim": 36}, VIDEO,
        extras={"clip_vision_output": vision(3, FACE), "concat_latent_image": VIDEO},
    ),
    Architecture(
        "WAN21_Vace", WAN | {"model_type": "vace", "vace_in_dim": 96, "vace_layers": 1, "num_layers": 2}, VIDEO,
        special="the residual stream is written in place",
    ),
    Architecture(
        "WAN21_Camera", WAN | {"model_type": "camera", "in_dim": 32}, VIDEO,
        extras={"camera_conditions": (24, 2, 32, 32)},
    ),
    Architecture("WAN22_T2V", WAN | {"in_dim": 48, "out_dim": 48}, (48, 2, 4, 4)),
    Architecture(
        "WAN22_S2V", WAN | {"model_type": "s2v", "audio_dim": 16, "audio_inject_layers": [0]}, VIDEO,
        extras={"audio_embed": (25, 16, 8), "reference_latents": [FRAME], "control_video": VIDEO},
    ),
    Architecture(
        "WAN21_HuMo", WAN | {"model_type": "humo"}, VIDEO,
        extras={"audio_embed": (2, 8, 5, 16), "reference_latents": [FRAME]},
        smaller={"comfy.ldm.wan.model.AudioProjModel": {"channels": 16, "intermediate_dim": 16}},
    ),
    Architecture(
        "WAN22_Animate", WAN | {"model_type": "animate", "in_dim": 36}, VIDEO, extras={"pose_video_latent": FRAME},
        smaller={"comfy.ldm.wan.model_animate.Generator": None, "comfy.ldm.wan.model_animate.FaceEncoder": None},
        special="adds the pose in place; what it makes of a face is not checked",
    ),
    Architecture(
        "WAN_Animate2", WAN | {"model_type": "animate2", "in_dim": 36, "num_layers": 2}, VIDEO,
        extras={"pose_video_latent": FRAME}, special="all blocks write keys and values into the same buffers",
    ),
    Architecture("WAN21_SCAIL", WAN | {"model_type": "scail", "in_dim": 20}, VIDEO, extras=POSE),
    Architecture(
        "WAN21_SCAIL2", WAN | {"model_type": "scail2", "in_dim": 20}, VIDEO,
        extras=POSE | {"driving_mask_28ch": (2, 28, 2, 2), "ref_mask_28ch": (3, 28, 4, 4)},
    ),
    Architecture(
        "WAN22_WanDancer",
        WAN
        | {
            "model_type": "wandancer", "in_dim": 36, "audio_inject_layers": [0], "music_dim": 32, "music_heads": 2,
            "music_latent_dim": 32,
        },
        (16, 2, 4, 16), extras={"audio_embed": (4, 35), "clip_vision_output_ref": vision(3, FACE)},
    ),
    Architecture(
        "SeedVR2",
        {
            "image_model": "seedvr2", "vid_dim": 64, "txt_in_dim": CONTEXT, "heads": 1, "head_dim": 64, "num_layers": 2,
            "mm_layers": 1, "norm_eps": 1e-5, "mlp_type": "swiglu", "vid_out_norm": True, "rope_dim": 64,
        },
        (16, 1, 4, 4), extras={"condition": (17, 1, 4, 4)},
        special="pairs the halves of a call with each other's prompts; attention is called without options",
    ),
    Architecture(
        "Kandinsky5", KANDINSKY, VIDEO, extras=POOL | {"time_dim_replace": FRAME},
        special="writes frames into x in place",
    ),
    Architecture("CogVideoX_T2V", COGVIDEO, VIDEO),
    Architecture("CogVideoX_I2V", COGVIDEO | {"in_channels": 32, "ofs_embed_dim": 16}, VIDEO),
)  # fmt: skip
FLOW_RVS = Architecture("WAN21_FlowRVS", WAN | {"model_type": "flow_rvs"}, VIDEO)  # segments a video: no noise
