"""How well a score ranks anomalies below normal images: areas under precision over recall."""

import numpy as np


def auprc(anomaly: np.ndarray, score: np.ndarray) -> float:
    """The area under the precision-recall curve by the trapezoid rule, as published.

    Args:
        anomaly: whether an image is one, bool [N]; the positive class.
        score: low where the model thinks so, [N].
    """
    from sklearn.metrics import auc, precision_recall_curve  # Every command lists the tasks.

    precision, recall, _ = precision_recall_curve(anomaly, -score)
    return float(auc(recall, precision))


def average_precision(anomaly: np.ndarray, score: np.ndarray) -> float:
    """The mean over anomalies of the precision down to each; arguments as of `auprc`."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(anomaly, -score))
