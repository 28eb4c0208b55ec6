"""Who acts, if a program does not say it: the user and the host of this process."""

import getpass
import socket
from functools import cache


@cache
def this_process() -> str:
    """Return the user and the host of this process, such as ``ada@web1``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have a user id without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
