# ruff: noqa: D101, D103 - a program as a user writes it
# pyright: strict
"""What a user gets wrong with job classes. Type checkers must complain about the marked lines, and no others."""

import jobrt


class SendEmail(jobrt.Job):
    QUEUE = "mail"

    to: str
    subject: str = "Hello"

    async def run(self, ctx: jobrt.Context) -> None:
        self.to = "b@example.com"  # refused: jobs are frozen
        ctx.progres(1, 2)  # refused: no such method


def tomorrow(job: jobrt.JobRecord) -> str:
    return "tomorrow"


class Wrong(jobrt.Job):
    BACKOFF = tomorrow  # refused: seconds or a timedelta
    QUEUE = 3  # refused: a queue has a name
    MAX_ATTEMPTS = "many"  # refused: a number, or None
    TIMEOUT = "soon"  # refused: seconds
    RUN_IN = "moon"  # refused: no such place
    UNIQUE = True  # refused: a jobrt.Unique

    async def run(self, ctx: jobrt.Context) -> None: ...


class Ordered(jobrt.Job):
    first: int = 1
    second: int  # refused: no default, after one that has

    async def run(self, ctx: jobrt.Context) -> None: ...


async def main(app: jobrt.App) -> None:
    SendEmail()  # refused: a field is missing
    SendEmail(to=3)  # refused: wrong type
    SendEmail("a@example.com", "Hi", "there")  # refused: too many
    SendEmail(to="a@example.com", subjekt="Hi")  # refused: no such field
    email = SendEmail(to="a@example.com")
    email.with_options(prio=3)  # refused: no such option
    email.with_options(priority="high")  # refused: wrong type
    assert email.with_options(queue="slow").job.two  # refused: no such field
    async with app.open_client() as jobs:
        await jobs.enqueue(SendEmail)  # refused: a class, not a value
        await jobs.enqueue("SendEmail")  # refused: a name
        await jobs.enqueue(email, tags=3)  # refused: wrong type
