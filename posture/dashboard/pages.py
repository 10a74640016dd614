"""The pages' HTML: one frame around what each page's script shows. Everything that is put into it is escaped."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from string import Template

from starlette.responses import HTMLResponse

NAVIGATION = (("/", "Streams"), ("/history", "History"), ("/farm", "Farm"), ("/events", "Events"))
NOTIFY = """\
<button id="notify" type="button" class="quiet" title="Tell me of alerts" hidden>
<svg class="icon" aria-hidden="true"><use href="/static/icons.svg#bell"></use></svg>
<span class="visually-hidden">Tell me of alerts</span>
</button>
"""
LEAVE = '<button id="leave" type="button" class="quiet" hidden>Log out</button>'

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
  $navigation
  <div class="tools">$tools</div>
</header>
<div id="banners" role="status" aria-live="polite"></div>
<div id="toasts" role="status" aria-live="polite"></div>
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


def page(
    title: str,
    main: str,
    *,
    script: str,
    at: str = "",
    status: int = 200,
    head: str = "",
    navigation: bool = True,
) -> HTMLResponse:
    """Return a page.

    Args:
        title: in plain text.
        main: HTML of its content, which the script fills.
        script: the name of its script in ``static/``.
        at: the path of the entry in the navigation that it belongs to.
        status: HTTP's.
        head: further HTML of its head.
        navigation: it leads to the other pages.
    """
    links = "".join(f'<a href="{path}"{CURRENT if path == at else ""}>{name}</a>' for path, name in NAVIGATION)
    html = FRAME.substitute(
        title=escape(title),
        head=f'{head}<script type="module" src="/static/{script}.js"></script>\n',
        navigation=f'<nav aria-label="Pages">{links}</nav>' if navigation else "",
        tools=(NOTIFY + LEAVE if navigation else "") + THEME,
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
    return page(phrase, main, script="theme", status=status)


LOGIN = Template("""\
<form class="login notice" method="post" action="/login">
<h1>Log in</h1>
<p class="complaint" role="alert">$complaint</p>
<input type="hidden" name="token" value="$token">
<input type="hidden" name="next" value="$next">
<label>Name<input name="name" autocomplete="username" required maxlength="64" autofocus value="$name"></label>
<label>Password
<input name="password" type="password" autocomplete="current-password" required maxlength="256"></label>
<button class="primary" type="submit">Log in</button>
</form>""")


def login(token: str, next_page: str, *, name: str = "", complaint: str = "", status: int = 200) -> HTMLResponse:
    """Return the page where one logs in.

    Args:
        token: the form's.
        next_page: where to go then.
        name: that was given before.
        complaint: why that was refused.
        status: HTTP's.
    """
    fields = {"token": token, "next": next_page, "name": name, "complaint": complaint}
    form = LOGIN.substitute({key: escape(value) for key, value in fields.items()})
    return page("Log in", form, script="theme", status=status, navigation=False)


def again() -> HTMLResponse:
    """Return a page that asks for itself again.

    A link in a mail or on another page brings no strict cookie along; what this page asks for does.
    """
    return page("One moment", "<p>One moment.</p>", script="theme", head='<meta http-equiv="refresh" content="0">')
