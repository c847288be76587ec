"""Losses: tensors in, one loss per row (or per group) out, never reduced.

    cross_entropy.py   hard labels; soft targets at a temperature
    squared_error.py   one value per row
    binary.py          several yes-or-no outputs a row
    logit_mse.py       logits against logits
    listwise.py        a softmax over the candidates of each query
    vocabulary.py      thousands of pieces, of which teachers keep a few
    segments.py        the slots of a group, such as a sentence's words, as one
    mixing.py          hard and soft losses into one; teacher annealing

Every loss is in nats where it is a cross entropy, is computed in fp32 whatever the input's dtype,
and refuses shapes that would broadcast. What a row weighs and how rows are averaged is the
caller's business. Knows no task, teacher or student.
"""
