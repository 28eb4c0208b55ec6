"""CPU-bound functions in threads: many jobs in one batch, two at a time.

Run it with ``python examples/resize_images.py``.
"""

import tempfile
from pathlib import Path

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:", queues={"images": 8})

WIDTH, HEIGHT = 64, 48


@app.job(queue="images", max_attempts=3, max_concurrency=2)
def resize(ctx: jobrt.Context, path: str, factor: int = 2) -> str:
    """Shrink a PGM image. A plain ``def`` runs in a thread and does not block the event loop."""
    source = Path(path)
    header, pixels = source.read_bytes().split(b"\n255\n", 1)
    width, height = map(int, header.split()[1:])
    rows = [pixels[y * width : (y + 1) * width : factor] for y in range(0, height, factor)]
    small = source.with_suffix(".small.pgm")
    small.write_bytes(f"P5 {len(rows[0])} {len(rows)}\n255\n".encode() + b"".join(rows))
    return small.name


async def main() -> None:
    """Create six images and shrink them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.pgm") for number in range(6)]
        for number, path in enumerate(paths):
            path.write_bytes(f"P5 {WIDTH} {HEIGHT}\n255\n".encode() + bytes([number]) * (WIDTH * HEIGHT))
        async with app.open_client() as jobs:
            handles = await jobs.enqueue_many(
                resize.new(str(path)).with_options(tags=["thumbnail"], priority=-number)
                for number, path in enumerate(paths)
            )
            await app.drain()
            for handle in handles:
                print(handle.id, await handle.result())
            done = jobrt.where.tagged_any(["thumbnail"]) & jobrt.where.state("completed")
            print(await jobs.count(done), "done")


if __name__ == "__main__":
    trio.run(main)
