"""A plot as a file of its own."""

from html import escape

from tubelet.bench.plots import Dot, Path, Plot, Rule, Text


def svg(plot: Plot) -> str:
    """Draw a plot of lines on a white ground. Raises TypeError for one that has bars."""
    drawn = [f'<rect width="{plot.width}" height="{plot.height}" fill="#fff"/>', f"<title>{escape(plot.label)}</title>"]
    for part in plot.parts:
        match part:
            case Text():
                weight = "600" if part.kind == "name" else "400"
                drawn.append(
                    f'<text x="{part.x:.1f}" y="{part.y:.1f}" text-anchor="{part.anchor}" font-weight="{weight}" '
                    f'fill="#333">{escape(part.text)}</text>'
                )
            case Rule():
                drawn.append(
                    f'<path d="M{part.x1:.1f} {part.y1:.1f}L{part.x2:.1f} {part.y2:.1f}" stroke="#ddd" fill="none"/>'
                )
            case Dot():
                drawn.append(
                    f'<circle cx="{part.x:.1f}" cy="{part.y:.1f}" r="{part.radius}" fill="{part.colour}">'
                    f"<title>{escape(part.title)}</title></circle>"
                )
            case Path():
                way = "L".join(f"{x:.1f} {y:.1f}" for x, y in part.places)
                drawn.append(f'<path d="M{way}" stroke="{part.colour}" stroke-width="2" fill="none"/>')
            case _:
                raise TypeError(f"a plot of lines has no {part.shape}")
    size = f'width="{plot.width}" height="{plot.height}" viewBox="0 0 {plot.width} {plot.height}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([opening, *drawn, "</svg>"]) + "\n"
