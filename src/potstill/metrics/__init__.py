"""Metrics: arrays in, one number out, and the same number for many bootstrap resamples at once.

    metric.py           what a metric is; units of a resample (rows, or queries)
    classification.py   accuracy, F1, Matthews
    correlation.py      Pearson, Spearman
    ranking.py          MRR, NDCG
    multilabel.py       F1 over labels, micro and macro
    tagging.py          F1 over spans of tags
    squad.py            exact match and token F1 of answers
    generation.py       BLEU and chrF of texts, by sacrebleu
    calibration.py      negative log-likelihood, calibration error
    named.py            a metric by its name in the run file

Knows no task and no model.
"""
