"""The `follow` command."""

import click

from jobrt._views.updates import update_in_words
from jobrt.cli.output import print_json_line, print_lines
from jobrt.cli.selection import ID, Number
from jobrt.cli.setting import Setting, in_trio


@click.command()
@click.argument("job_id", type=ID)
@click.option(
    "--after",
    type=Number(0, (1 << 63) - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Skip entries up to N.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@in_trio
async def follow(setting: Setting, job_id: int, after: int, as_json: bool) -> None:
    """Print what happens to a job, as it happens, until the job ends.

    These are its log lines, the values that it emits, its progress and its states. With --json, each line has a
    `cursor`: pass it as --after to go on behind that line.
    """
    async with setting.app().open_client() as jobs:
        async for update in jobs.follow(job_id, after=after):
            if as_json:
                print_json_line(update.as_dict())
            else:
                print_lines(update_in_words(update).split("\n"))


COMMANDS = (follow,)
