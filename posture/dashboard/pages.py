"""The pages' HTML: one frame around what each page's script shows. Everything that is put into it is escaped."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from string import Template

from starlette.responses import HTMLResponse

NAVIGATION = (("/", "Streams"),)

FRAME = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title · Posture Farm</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
$head</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
  <a class="brand" href="/">
    <svg class="icon" aria-hidden="true"><use href="/static/icons.svg#brand"></use></svg>Posture Farm
  </a>
  <nav aria-label="Pages">$navigation</nav>
  <div class="tools">$tools</div>
</header>
<div id="banners" role="status" aria-live="polite"></div>
<main id="main" tabindex="-1">
$main
</main>
</body>
</html>
""")

THEME = """\
<button id="theme" type="button" class="quiet" hidden>
<svg class="icon" aria-hidden="true"><use href="/static/icons.svg#theme"></use></svg>
<span class="visually-hidden"></span>
</button>"""
CURRENT = ' aria-current="page"'
NO_SCRIPT = "<noscript><p>This page needs JavaScript.</p></noscript>"


def page(title: str, main: str, *, script: str, at: str = "", status: int = 200, head: str = "") -> HTMLResponse:
    """Return a page.

    Args:
        title: in plain text.
        main: HTML of its content, which the script fills.
        script: the name of its script in ``static/``.
        at: the path of the entry in the navigation that it belongs to.
        status: HTTP's.
        head: further HTML of its head.
    """
    links = "".join(f'<a href="{path}"{CURRENT if path == at else ""}>{name}</a>' for path, name in NAVIGATION)
    html = FRAME.substitute(
        title=escape(title),
        head=f'{head}<script type="module" src="/static/{script}.js"></script>\n',
        navigation=links,
        tools=THEME,
        main=main + NO_SCRIPT,
    )
    return HTMLResponse(html, status)


def error(status: int, why: str) -> HTMLResponse:
    """Return a plain page about what was refused or is not there.

    Args:
        status: HTTP's.
        why: for people, in plain text.
    """
    phrase = HTTPStatus(status).phrase
    main = (
        f'<section class="notice"><h1>{escape(phrase)}</h1><p>{escape(why)}</p>'
        f'<p><a href="/">All streams</a> <span class="muted">· status {status}</span></p></section>'
    )
    return page(phrase, main, script="common", status=status)
