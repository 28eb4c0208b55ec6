"""Dashboard for operators: pages for a browser, as an ASGI application under Trio.

::

    serving    the server of ``python -m jobrt dashboard``; connection: one client of it
    site       `asgi`: routes and error pages
    guard      access control and security headers; cancels a request when the browser disconnects
    logins     failed logins, slowed down
    pages      the pages                     actions   what their buttons do
    selection  filters in URLs               render    templates and static files

It needs an extra: ``pip install 'jobrt[dashboard]'``. `design/dashboard.md` gives the reasons for its design.
"""

try:
    from jobrt.dashboard.site import asgi
except ModuleNotFoundError as _error:
    _name = (_error.name or "").partition(".")[0]
    if _name == "jobrt":
        raise
    raise ModuleNotFoundError(
        f"the dashboard needs {_name}: pip install 'jobrt[dashboard]'", name=_error.name
    ) from _error

__all__ = ["asgi"]
