"""The frozen base: FLUX.1-Kontext through stock diffusers, its 2x2 canvas, rectified flow, and `AnalogyPipeline`.

`lorweb.kontext.pipeline.AnalogyPipeline` and `lorweb.kontext.load.load_base` are the ways in. Modules are imported by
name, so that geometry and flow stay free of diffusers.
"""
