"""Every private or undocumented symbol of ComfyUI that the pack uses, once each, and what for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """A symbol by its dotted name, what it is for, and what else of it the pack relies on.

    has: attributes that it has, or that a method of the class sets. takes: its first parameters after self, in order.
    says: names and keys in its code, by which the pack recognises something or is recognised. All three with spaces
    between them. where: a symbol without which this one is not needed.
    """

    name: str
    purpose: str
    has: str = ""
    takes: str = ""
    says: str = ""
    where: str = ""


MODEL = (
    Symbol("comfy.model_patcher.ModelPatcher.get_model_object", "what a MODEL says of its latents and its noise"),
    Symbol(
        "comfy.model_base.BaseModel",
        "what `get_model_object` is asked for",
        has="latent_format model_sampling model_config process_latent_in process_latent_out",
    ),
    Symbol(
        "comfy.latent_formats.LatentFormat",
        "which latents a model takes",
        has="latent_channels latent_dimensions",
    ),
    Symbol("comfy.model_sampling.ModelSamplingDiscrete", "full noise", has="sigma_max"),
    Symbol(
        "comfy.model_sampling.EPS.noise_scaling",
        "noise mixed into a latent, and whether a model starts from noise at all",
        takes="sigma noise latent_image max_denoise",
    ),
    Symbol(
        "comfy.supported_models_base.BASE", "the layout of a network, by which noise sets are found", has="unet_config"
    ),
)

LATENTS = (
    Symbol("comfy.nested_tensor.NestedTensor", "several latents in one", has="is_nested"),
    Symbol(
        "comfy.sample.fix_empty_latent_channels",
        "an empty latent in the size that a model needs",
        takes="model latent_image downscale_ratio_spacial downscale_ratio_temporal",
    ),
)

STARTS = (
    Symbol("comfy.patcher_extension.WrappersMP.OUTER_SAMPLE", "the wrapper that gives each run of a MODEL other noise"),
    Symbol(
        "comfy.samplers.CFGGuider.outer_sample",
        "what it wraps",
        takes="noise latent_image sampler sigmas denoise_mask callback disable_pbar seed latent_shapes",
    ),
    Symbol("comfy.model_patcher.ModelPatcher.clone", "a MODEL of its own"),
    Symbol(
        "comfy.model_patcher.ModelPatcher.add_wrapper_with_key", "sets that wrapper", takes="wrapper_type key wrapper"
    ),
    Symbol(
        "comfy.model_patcher.ModelPatcher.remove_wrappers_with_key",
        "takes an earlier one off",
        takes="wrapper_type key",
    ),
    Symbol("comfy.model_patcher.ModelPatcher.get_wrappers", "whether a MODEL has one", takes="wrapper_type key"),
    Symbol("comfy.utils.unpack_latents", "a video and its sound, from one row", takes="combined_latent latent_shapes"),
    Symbol("comfy.utils.pack_latents", "packs them into one row again", takes="latents"),
)

SAMPLING = (
    Symbol(
        "comfy.samplers.CFGGuider",
        "the guider that is wired: its model and prompts before a run, its prepared ones in a run",
        has="model_patcher model_options original_conds conds inner_model cfg set_conds set_cfg",
    ),
    Symbol("comfy_extras.nodes_custom_sampler.Guider_Basic", "a guider of one prompt, for each prompt of a list"),
    Symbol(
        "comfy.samplers.CFGGuider.sample",
        "one sampling run, from its beginning to its end",
        takes="noise latent_image sampler sigmas denoise_mask callback disable_pbar seed",
    ),
    Symbol(
        "comfy.samplers.CFGGuider.outer_predict_noise",
        "replaced by a formula where only the sampler is tried",
        takes="x timestep model_options seed",
    ),
    Symbol("comfy.samplers.Sampler", "the base of a Differentiable Sampler", has="sample max_denoise"),
    Symbol(
        "comfy.samplers.KSAMPLER",
        "a sampler made of a function: its name in messages, its twin for gradients",
        has="sampler_function extra_options",
    ),
    Symbol(
        "comfy.samplers.KSAMPLER.sample",
        "wrapped to stop a run early, and to have the model's calls in hand",
        takes="model_wrap sigmas extra_args callback noise latent_image denoise_mask disable_pbar",
    ),
    Symbol("comfy.samplers.ksampler", "dpm_adaptive goes by another name inside", says="dpm_adaptive_function"),
    Symbol(
        "comfy.samplers.cfg_function",
        "guidance as it is, where only the sampler is tried",
        takes="model cond_pred uncond_pred cond_scale x timestep model_options",
    ),
    Symbol(
        "comfy.samplers",
        "keys of prepared prompts and of model options: which samples a call holds, and who looks at it",
        says="model_conds control hooks mask transformer_options cond_or_uncond model_function_wrapper "
        "sampler_cfg_function",
    ),
    Symbol(
        "comfy.sampler_helpers.prepare_sampling",
        "loads the models before the first gradient",
        takes="model noise_shape conds model_options",
    ),
    Symbol("comfy.sampler_helpers.prepare_mask", "a mask in latent size", takes="noise_mask shape device"),
    Symbol(
        "comfy.sampler_helpers",
        "a key of prompts: models to load beside the model",
        says="additional_models",
    ),
    Symbol(
        "comfy.sampler_helpers.preprocess_multigpu_conds",
        "the mark of a model that is spread over several GPUs",
        says="multigpu",
        where="comfy.sampler_helpers.preprocess_multigpu_conds",
    ),
    Symbol("comfy.conds.CONDConstant", "recognized by its name: what is never repeated along the batch"),
    Symbol(
        "comfy.patcher_extension.WrappersMP",
        "the kinds of wrappers that are set or looked for",
        has="APPLY_MODEL PREDICT_NOISE PREPARE_SAMPLING",
    ),
    Symbol(
        "comfy.patcher_extension.add_wrapper_with_key",
        "sets a wrapper in model options",
        takes="wrapper_type key wrapper transformer_options is_model_options",
        says="wrappers",
    ),
    Symbol("comfy.patcher_extension.WrapperExecutor", "from a call to its model", has="class_obj"),
    Symbol("latent_preview.get_previewer", "pictures of latents while there is no VAE", takes="device latent_format"),
    Symbol(
        "latent_preview.LatentPreviewer.decode_latent_to_preview_image", "one such picture", takes="preview_format x0"
    ),
)

MODELS = (
    Symbol(
        "comfy.model_patcher.ModelPatcher",
        "the MODEL that is wired: what is loaded, what is patched, and which hooks are in force",
        has="model object_patches wrappers load_device model_size get_free_memory get_additional_models_with_key "
        "is_dynamic current_hooks apply_hooks clear_cached_hook_weights restore_hook_patches "
        "cleanup",
    ),
    Symbol(
        "comfy.model_patcher.ModelPatcherDynamic.get_non_dynamic_delegate",
        "a MODEL whose weights are ordinary tensors, in place of one that pages them in and out",
    ),
    Symbol("comfy.model_patcher.create_model_options_clone", "model options that can be changed for one run"),
    Symbol(
        "comfy.model_base.BaseModel",
        "the model of a call: its network and its precision",
        has="diffusion_model current_patcher get_dtype_inference",
    ),
    Symbol(
        "comfy.model_base.BaseModel._apply_model",
        "a call of the model, taken apart along the batch",
        takes="x t c_concat c_crossattn control transformer_options",
    ),
    Symbol("comfy.model_base.SVD_img2vid", "models that take the batch for the frames of one video"),
    Symbol("comfy.model_management.in_training", "True while differentiating: most models then use plain operations"),
    Symbol("comfy.model_management.get_total_memory", "what gradients may take of a device"),
    Symbol("comfy_api.torch_helpers.torch_compile.COMPILE_KEY", "the mark of a compiled model", says="torch.compile"),
    Symbol("comfy_extras.nodes_easycache", "the mark of a model that leaves out steps", says="easycache"),
    Symbol("comfy_extras.nodes_easycache.EasyCacheHolder", "what that is called", has="name"),
    Symbol("comfy_extras.nodes_easycache.LazyCacheHolder", "what that is called", has="name"),
    Symbol(
        "comfy.sd.VAE",
        "the decoder itself, with what VAE Decode does before and after it",
        has="first_stage_model patcher device output_device vae_dtype vae_output_dtype latent_dim "
        "latent_channels memory_used_decode process_output",
    ),
    Symbol("comfy.ldm.models.autoencoder.AutoencodingEngine", "pictures of latents", has="decode"),
)

TWINS = (
    Symbol("comfy.k_diffusion.sampling", "samplers that are built again for gradients"),
    Symbol("comfy.k_diffusion.sampling.sample_dpm_adaptive", "refused by its name"),
    Symbol("comfy.k_diffusion.sampling.sample_ar_video", "refused by its name"),
    Symbol("comfy.k_diffusion.sampling.sample_deis", "calls what is replaced by identity", says="get_deis_coeff_list"),
    Symbol("comfy.k_diffusion.deis.get_deis_coeff_list", "replaced: it takes a derivative of its own"),
    Symbol("comfy.k_diffusion.sa_solver", "samplers that are built again for gradients"),
    Symbol("comfy.extra_samplers", "samplers that are built again for gradients"),
    Symbol("comfy.utils.common_upscale", "knows bislerp, whose derivative is not finite", says="bislerp"),
    Symbol(
        "comfy_extras.nodes_advanced_samplers",
        "LCM Upscale, which is refused where it enlarges by bislerp",
        says="upscale_method",
    ),
)

KERNELS = (
    Symbol("comfy.ldm.modules.attention", "every attention function of the host, whoever holds it"),
    Symbol("comfy.ldm.modules.attention.REGISTERED_ATTENTION_FUNCTIONS", "those that are known by a name"),
    Symbol(
        "comfy.ldm.modules.attention.wrap_attn",
        "the key that outranks every other choice of attention",
        says="optimized_attention_override",
    ),
    Symbol("comfy.ldm.modules.attention.attention_pytorch", "attention with a derivative", has="__wrapped__"),
    Symbol("comfy.ldm.modules.attention.attention_basic", "attention with a derivative", has="__wrapped__"),
    Symbol("comfy.ldm.modules.attention.attention_split", "attention with a derivative", has="__wrapped__"),
    Symbol("comfy.ldm.modules.attention.attention_sub_quad", "attention with a derivative", has="__wrapped__"),
    Symbol(
        "comfy.ldm.modules.attention.attention_pytorch.container_function",
        "another form of a kernel, put off while differentiating",
        where="comfy.ldm.modules.attention.attention_pytorch.container_function",
    ),
    Symbol(
        "comfy.cli_args.args.disable_comfy_compiler",
        "True while differentiating: what the compiler records must not outlive a call",
        where="comfy.cli_args.args.disable_comfy_compiler",
    ),
    Symbol("comfy_kitchen.backends.eager.apply_rope", "a fused operation in plain torch", where="comfy_kitchen"),
    Symbol("comfy_kitchen.backends.eager.rms_rope", "a fused operation in plain torch", where="comfy_kitchen.rms_rope"),
    Symbol("comfy_kitchen.backends.eager.adaln", "a fused operation in plain torch", where="comfy_kitchen.adaln"),
    Symbol(
        "comfy_kitchen.backends.eager.rms_adaln", "a fused operation in plain torch", where="comfy_kitchen.rms_adaln"
    ),
)

LAYERS = (
    Symbol(
        "comfy.ops.CastWeightBiasOp",
        "patches that a layer gets for each call",
        has="weight_function bias_function",
    ),
    Symbol(
        "comfy.ops.disable_weight_init.Linear",
        "where a layer brings and casts its weight",
        has="forward_comfy_cast_weights",
    ),
    Symbol("comfy.ops.mixed_precision_ops", "the mark of a layer in fewer bits", says="quant_format"),
    Symbol("comfy.controlnet.ControlLoraOps.Linear", "a layer that borrows the model's weight", has="weight up"),
    Symbol("comfy.controlnet.ControlLoraOps.Conv2d", "a layer that borrows the model's weight", has="weight up"),
    Symbol("comfy.text_encoders.llama.TransformerBlock", "a block that writes its sum to `out=`"),
    Symbol("comfy.text_encoders.llama.TransformerBlockGemma2", "a block that writes its sum to `out=`"),
    Symbol(
        "comfy.ldm.hidream_o1.model.HiDreamO1Transformer",
        "keys and values of the prompt, kept from call to call",
        has="_kv_cache_entries _visual_cache",
    ),
)

CONDITIONINGS = (
    Symbol(
        "comfy.controlnet.ControlBase",
        "a ControlNet: the one before it, the pictures it was given, what it holds after a run",
        has="previous_controlnet cond_hint_original extra_concat_orig get_extra_hooks cleanup",
    ),
    Symbol("comfy.controlnet.ControlNet", "its network", has="control_model"),
    Symbol(
        "comfy.controlnet.ControlNet.get_control",
        "put off until the model is called",
        takes="x_noisy t cond batched_number transformer_options",
    ),
    Symbol("comfy.hooks.HookGroup", "the hooks of a prompt", has="hooks"),
    Symbol("comfy.hooks.Hook", "its schedule", has="hook_keyframe"),
    Symbol("comfy.hooks.HookKeyframeGroup", "how strong a hook is at this step", has="_current_keyframe"),
)

KSAMPLER = (
    Symbol("comfy.samplers.KSampler", "its names, and the sigmas that it makes", has="SAMPLERS SCHEDULERS sigmas"),
    Symbol(
        "comfy.samplers.KSampler.__init__",
        "asked for those sigmas",
        takes="model steps device sampler scheduler denoise",
    ),
    Symbol(
        "comfy.sample.sample",
        "one run of KSampler from any noise",
        takes="model noise steps cfg sampler_name scheduler positive negative latent_image denoise",
    ),
    Symbol("latent_preview.prepare_callback", "shows each step of it", takes="model steps"),
    Symbol("comfy.utils.PROGRESS_BAR_ENABLED", "whether it shows a bar in the console"),
)

SYMBOLS = {
    "session": (*MODEL, *LATENTS, *STARTS, *SAMPLING, *MODELS, *TWINS, *KERNELS, *LAYERS, *CONDITIONINGS),
    "ksampler": (*MODEL, *LATENTS, *STARTS, *SAMPLING, *MODELS, *TWINS, *KERNELS, *LAYERS, *CONDITIONINGS, *KSAMPLER),
    "networks": (
        Symbol(
            "comfy.model_patcher.ModelPatcher.__init__",
            "keeps a network of features among the host's models",
            takes="model load_device offload_device",
        ),
    ),
    "clip_vision": (
        Symbol(
            "comfy.clip_vision.ClipVisionModel",
            "the CLIP_VISION that is wired: its network and how it wants its pictures",
            has="model model_type config image_size image_mean image_std patcher load_device",
        ),
        Symbol(
            "comfy.clip_model.CLIPVision.forward",
            "the last tokens and those before",
            takes="pixel_values attention_mask intermediate_output",
        ),
        Symbol(
            "comfy.clip_model.CLIPVision",
            "keys of its config: the side of a patch, and how many NaFlex takes",
            says="patch_size num_patches",
        ),
        Symbol(
            "comfy.clip_model.siglip2_flex_calc_resolution",
            "the size at which SigLIP 2 NaFlex sees a picture",
            takes="oh ow patch_size max_num_patches",
        ),
    ),
    "demo": (
        Symbol("comfy.taesd.taesd.TAESD", "the demo's VAE", has="taesd_encoder taesd_decoder"),
        Symbol("comfy.taesd.taesd.Block", "its blocks, which are made smaller", has="conv fuse"),
    ),
    "latents": (*MODEL, *LATENTS),
    "starts": (*MODEL, *STARTS),
}  # by what cannot be used without them
