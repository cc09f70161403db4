"""The paper's four claims, judged by the runs: one HTML page, figures, tables."""
