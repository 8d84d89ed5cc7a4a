"""From a dataset to tokens and labels: sources, formats, templates, masks, the verdict, packing and collation.

`pipeline.DataPipeline` is the one way from a row to an example; the preview, the check and training call it.
"""
