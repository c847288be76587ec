"""Bundles that answer, and the HTTP service. Starts without torch.

    predictor.py    a bundle with the student's own predict
    batcher.py      rows of many requests to batches of one engine
    requests.py     a body to token rows, outputs to an answer
    predictions.py  POST /predict
    faults.py       what goes wrong, as an answer over HTTP
    app.py          all other endpoints, and what guards them
    schema.py       what a bundle takes and answers, for callers
    metrics.py      Prometheus counters
    server.py       worker processes
    settings.py     limits and places
    page.html       the page to try tasks on

Patches of tasks, loaded later, have their place: ``tasks.predictor.passes`` decides which tasks
share a pass (a patched one shares with its own patch alone), and an engine's outputs are asked for
in one place, ``BundlePredictor.run``.

Knows bundles only: no run file, no students, no training.
"""
