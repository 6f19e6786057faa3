"""Measures how well a score ranks anomalies below normal images."""

import numpy as np


def auprc(anomaly: np.ndarray, score: np.ndarray) -> float:
    """The area under the precision-recall curve by the trapezoid rule, as published.

    Args:
        anomaly: True for anomalies, the positive class, bool [N].
        score: low for images that are likely anomalies, [N].
    """
    from sklearn.metrics import auc, precision_recall_curve  # Every command lists the tasks.

    precision, recall, _ = precision_recall_curve(anomaly, -score)
    return float(auc(recall, precision))


def average_precision(anomaly: np.ndarray, score: np.ndarray) -> float:
    """The mean precision at the rank of each anomaly; arguments as in `auprc`."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(anomaly, -score))
