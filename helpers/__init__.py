"""The model code of the course. A module holds one concept and imports only from those above it in this list.

Ground
    files                  writing so that nothing is ever half-written
    versions, environment  does this machine have what the course needs?
    batch                  what flows through a model: `Features`, `Batch`

Data
    images                 any image file as an upright RGB picture
    labels, glove          vocabulary, order, padding, sets; word vectors
    words                  captions: tokenizer and back, word vocabulary
    records, csv_reader, readers, flickr   annotation files into one record type
    scenes                 the embedded dataset (its artwork: `helpers.scenery`)
    fetching, archives, downloads  the official data sets, checked
    annotated, loaders     a data set with its report; torch data sets and loaders
    captions               the captions of a split, in batches by length
    layouts, splits, datasets   `load`: which layout it is, which image is in which split
    transforms             what the network sees

Encoders
    weights, scenes_cnn, backbones, encoders           image -> features
    crops                                              the image as tiles and as a whole
    cell_details                                       the colours in each cell, and its place
    fingerprints, feature_store, encoding, features    the feature cache

Models
    norms                  features with mean 0 and variance 1
    losses                 objectives
    assignment, alignment  order-free targets
    decoders               features -> label sequence, step by step
    attention_kernels, attention   a decoder that looks again at every step
    joint_embedding        a decoder that scores in the space of its embedding
    label_graph, label_decoder     labels that know each other: LCNet
    search, beam           greedy, sampling and beam decoding
    set_probability        what a decoder thinks of given labels
    metrics, thresholds    judging; from scores to sets
    intervals              how sure a metric is; is one system better than another?
    prediction             what a system is and what it says
    classifier, sequence   a score a label; one label at a time
    semantic_regularisation, order_free    the same from concepts; the same without an order
    captioner              sentences in place of labels
    systems                encoder + decoder + objective, by name
    evaluation             everything about a system on a split
    training, checkpoints  fitting, resuming, saving
    caption_metrics        BLEU; is what a caption names in the picture?
    localization           attention against boxes

Figures: what several notebooks share first
    tracing, search_tree                                     decodings, kept for figures
    plots, data_plots, feature_plots, threshold_plots, decoding_plots, conditioning_plots, attention_plots, alignment_plots, evaluation_plots, search_plots, alignment_film, graph_plots    figures

Command lines
    options, label_options, tasks, experiment, train, evaluate, predict, notebooks

Notebooks
    widgets, data_widgets, threshold_widgets, decoding_widgets, conditioning_widgets, attention_widgets, alignment_widgets, evaluation_widgets, search_widgets, graph_widgets   interactive views
    caption_widgets
    checks, data_checks, feature_checks, decoding_checks, conditioning_checks, attention_checks, alignment_checks, evaluation_checks, graph_checks   exercises
    caption_checks
"""
