"""Draw a run's plots: `python plot.py REPORT.json FOLDER`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "schedfactory", "svg.fonttype": "path", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}
)

from matplotlib import pyplot  # noqa: E402 – after the choice of what draws
from matplotlib.axes import Axes  # noqa: E402

_OURS = "schedfactory"


class Report:
    """What a plot asks of the JSON."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._rows = {(row["scenario"], row["who"]): row for row in tree["results"]}
        self.names = [one["name"] for one in tree["participants"] if one["skipped"] is None and one["name"] != "machine"]
        self.keys = list(dict.fromkeys(row["scenario"] for row in tree["results"]))
        self.scale = tree["scale"]

    def median(self, scenario: str, who: str, figure: str = "rate") -> float | None:
        row = self._rows.get((scenario, who))
        return row["figures"].get(figure, {}).get("median") if row else None

    def samples(self, scenario: str, who: str) -> list[float]:
        row = self._rows.get((scenario, who))
        return row["samples"] if row else []

    def sizes(self, prefix: str) -> list[int]:
        return sorted(int(key.rsplit("-", 1)[1]) for key in self.keys if key.startswith(prefix))


def _style(name: str, names: list[str]) -> dict[str, Any]:
    color = "black" if name == _OURS else f"C{names.index(name) - 1}"
    return {"label": name, "color": color, "linewidth": 2.5 if name == _OURS else 1.3}


def latency(report: Report) -> Any:
    """Of how many jobs the start was at most so late."""
    figure, panels = pyplot.subplots(1, 3, figsize=(12, 4), sharey=True)
    titles = {"same": "enqueue → start, same process", "other": "… from another process", "delayed": "run_at → start"}
    for panel, (scenario, title) in zip(panels, titles.items(), strict=True):
        _distribution(panel, report, scenario)
        panel.set_title(title)
        panel.set_xlabel("ms")
    panels[0].set_ylabel("share of the jobs")
    panels[0].legend(fontsize=8)
    return figure


def _distribution(panel: Axes, report: Report, scenario: str) -> None:
    for name in report.names:
        samples = sorted(report.samples(scenario, name))
        if samples:
            shares = [(number + 1) / len(samples) for number in range(len(samples))]
            panel.step([max(sample, 0.01) for sample in samples], shares, where="post", **_style(name, report.names))
    panel.set_xscale("log")
    panel.set_ylim(0, 1)


def batches(report: Report) -> Any:
    """Throughput by the number of jobs in one call."""
    figure, panel = pyplot.subplots(figsize=(7, 4.5))
    _lines(panel, report, "bulk-", "rate", share=1)
    panel.set(xscale="log", yscale="log", xlabel="jobs in one call", ylabel="jobs/s enqueued, normal")
    panel.legend(fontsize=8)
    return figure


def growth(report: Report) -> Any:
    """How much longer a drain takes with so many finished jobs in the file."""
    figure, panel = pyplot.subplots(figsize=(7, 4.5))
    _lines(panel, report, "finished-", "factor", share=report.scale)
    panel.axhline(1, color="grey", linewidth=0.8)
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="finished jobs put into the file",
        ylabel="drain, times slower than in the empty file",
    )
    panel.legend(fontsize=8)
    return figure


def _lines(panel: Axes, report: Report, prefix: str, figure: str, share: float) -> None:
    for name in report.names:
        points = [
            (size * share, value) for size in report.sizes(prefix) if (value := report.median(f"{prefix}{size}", name, figure))
        ]
        if points:
            panel.plot(*zip(*points, strict=True), marker="o", **_style(name, report.names))


def main() -> None:
    report = Report(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    folder = Path(sys.argv[2])
    for name, draw in {"latency": latency, "batches": batches, "growth": growth}.items():
        figure = draw(report)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
