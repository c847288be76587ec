"""Metrics: arrays in, one number out, and the same number for many bootstrap resamples at once.

    metric.py           what a metric is; units of a resample (rows, or queries)
    classification.py   accuracy, F1, Matthews
    correlation.py      Pearson, Spearman
    ranking.py          MRR, NDCG
    calibration.py      negative log-likelihood, calibration error
    named.py            a metric by its name in the run file

Knows no task and no model.
"""
