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
except ModuleNotFoundError as error:
    name = (error.name or "").partition(".")[0]
    if name == "jobrt":
        raise
    msg = f"the dashboard needs {name}: pip install 'jobrt[dashboard]'"
    raise ModuleNotFoundError(msg, name=error.name) from error

__all__ = ["asgi"]
