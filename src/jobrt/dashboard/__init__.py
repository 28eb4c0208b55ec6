"""Show operators how things stand, and let them act: pages for a browser, as an ASGI application under Trio.

::

    serving    a server for ``python -m jobrt dashboard``
    site       `asgi`: routes, and what becomes of errors
    guard      who may ask and press; headers; looks end when nobody waits for them
    overview · joblist · job · workers · crons       the pages            actions   what their buttons do
    picks      filters in URLs                       render    templates and static files

It needs the extra: ``pip install 'jobrt[dashboard]'``. `design/dashboard.md` says why it is so.
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
