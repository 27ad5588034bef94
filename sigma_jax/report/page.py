"""A report as one HTML file: figures with a paragraph each, and tables; nothing to fetch."""

import base64
import html
import io
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2.5rem}
figure{margin:1rem 0}img{max-width:100%;height:auto}
figcaption{max-width:46rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem;margin:1rem 0}
th,td{padding:.25rem .8rem .25rem 0;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
.failed{color:#b00020;font-weight:600}
footer{margin-top:3rem;color:#666;font-size:.85rem}
@media(prefers-color-scheme:dark){body{background:#fff}}
"""


@dataclass(frozen=True)
class Section:
    """A part of a report: a title, a paragraph that says what is seen, and a figure or a table."""

    title: str
    paragraph: str
    figure: Figure | None = None
    table: tuple[list[str], list[list[str]]] | None = None
    """Column names and rows, as text."""


def render_page(title: str, lead: str, sections: list[Section], footer: str) -> str:
    """The report as one self-contained HTML document. Figures are embedded and closed."""
    body = "\n".join(_section(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(lead)}</p>\n{body}\n"
        f"<footer>{html.escape(footer)}</footer></body></html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    paragraph = html.escape(section.paragraph)
    if section.figure is None:
        parts.append(f"<p>{paragraph}</p>")
    else:
        image = _embed(section.figure)
        alt = html.escape(section.title, quote=True)
        parts.append(
            f'<figure><img alt="{alt}" src="data:image/png;base64,{image}">'
            f"<figcaption>{paragraph}</figcaption></figure>"
        )
    if section.table is not None:
        parts.append(_table(*section.table))
    return "\n".join(parts)


def _embed(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _table(columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="failed">{html.escape(cell)}</td>'
            if cell == "FAILED"
            else f"<td>{html.escape(cell)}</td>"
            for cell in row
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
