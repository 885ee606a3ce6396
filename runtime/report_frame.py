"""The pages of reports: each its own page.html, in the frame of report_frame.html, which they share."""

from importlib import resources
from typing import TYPE_CHECKING

from ..preprocess.errors import MissingExtra

if TYPE_CHECKING:
    import jinja2

FRAME = "report_frame.html"


def load_page(package: str, *, decimals: int, purpose: str) -> "jinja2.Template":
    """Read the page.html of a package, in the frame. It escapes whatever is put into it.

    Args:
        package: where page.html lies, such as "tubelet.bench".
        decimals: of numbers that the page writes by `px`.
        purpose: of the page, for the error.

    Raises:
        MissingExtra: where Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", "bench", purpose=purpose) from error
    files = {
        FRAME: resources.files(__package__).joinpath(FRAME).read_text(encoding="utf-8"),
        "page.html": resources.files(package).joinpath("page.html").read_text(encoding="utf-8"),
    }
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(files),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["px"] = f"{{:.{decimals}f}}".format
    return environment.get_template("page.html")
