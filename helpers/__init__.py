"""The model code of the course. A folder imports only from the folders above it in this list.

    scenes      the drawn dataset: content, layout, drawing, captions, writing
    data        files -> records -> batches
    encoders    images -> Features
    decoders    Features -> label sequence, step by step
    metrics     tensors -> numbers
    systems     encoder + decoder + objective, by name
    training    fit, checkpoints, run, config, report
    commands    python -m helpers train | evaluate | predict | check | notebooks | scenes

`plots` draws what is shown outside a lesson. Lessons stand beside the notebooks and are never imported here.
"""
