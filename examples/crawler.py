"""Crawler whose deadline ends everything: each page is a job, and starts a job for each of its links.

The pages form a tree of jobs. The deadline of the first nursery cancels all of them, at any depth and on any machine,
and the block is over when no page is fetched any more. Pages that were seen before are not fetched again.

Run it with ``python examples/crawler.py``.
"""

import trio

import jobrt
from jobrt import where

SOME = 10


class Page(jobrt.Job):
    """Job that fetches one page, and the pages that it links to."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Fetch the page, then wait for the pages below."""
        await trio.sleep(0.02)  # stands for a request
        links = [2 * self.number, 2 * self.number + 1]  # a site without an end
        async with ctx.open_nursery("links") as nursery:
            for link in links:
                await nursery.enqueue(Page(link))


class Crawl(jobrt.Job):
    """Job that crawls a site for a limited time."""

    seconds: float

    async def run(self, ctx: jobrt.Context) -> str:
        """Start with the first page; report how far the crawl got."""
        try:
            async with ctx.open_nursery("site", deadline=self.seconds) as nursery:
                await nursery.enqueue(Page(1))
        except trio.TooSlowError:
            return "the time was over"
        return "the site was complete"


app = jobrt.App("sqlite:///:memory:", jobs=[Crawl, Page], queues={"default": 4})


async def main() -> None:
    """Crawl for a second, and look at what is left."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        crawl = await jobs.enqueue(Crawl(1.0))
        print(await crawl.result())
        print("there were pages:", await jobs.count(where.name("Page")) > SOME)
        print("pages that are not over:", await jobs.count(where.name("Page") & ~where.state("cancelled")))
        await worker.stop()


if __name__ == "__main__":
    trio.run(main)
