"""Bundles that answer, and the HTTP service. Starts without torch.

    predictor.py  a bundle with the student's own predict
    batcher.py    rows of many requests to batches of one engine
    requests.py   a body to token rows, outputs to an answer
    app.py        endpoints, faults, limits
    schema.py     what a bundle takes and answers, for callers
    metrics.py    Prometheus counters
    server.py     worker processes
    settings.py   limits and places
    page.html     the page to try tasks on

Knows bundles only: no run file, no students, no training.
"""
