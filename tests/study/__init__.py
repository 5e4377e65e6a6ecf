"""The experiments of arXiv 2601.00090 over any ComfyUI graph and any prompt file: docs/study.md says how."""
