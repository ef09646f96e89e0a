"""Draw the help of commands with rich, with examples.

rich is imported only for that, since it takes long to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from kallsift.cli.standard_streams import has_escapes

if TYPE_CHECKING:
    from rich.console import RenderableType

HELP_OPTIONS = ("-h", "--help")

WIDEST = 110
"""Highest number of columns of help; wider text is hard to read."""


class SourceOption(click.Option):
    """An option of every command that reads a source.

    Help lists it behind the command's own options.
    """


source_option = partial(click.option, cls=SourceOption)
"""Decorator like `click.option`, for these options."""


class HelpedCommand(click.Command):
    """A command with examples.

    Args:
        examples: command lines, each with a description.
    """

    def __init__(self, *arguments: Any, examples: Mapping[str, str] | None = None, **options: Any) -> None:
        # click keeps the option of the first context, which need not be one of the group
        options.setdefault("context_settings", {"help_option_names": HELP_OPTIONS})
        super().__init__(*arguments, **options)
        self.examples = dict(examples or {})

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text with terminal escapes.

        click removes them if the output is no terminal.
        """
        return _help(self, ctx, self.examples)


class HelpedGroup(click.Group):
    """A group of commands with examples.

    Args:
        examples: command lines, each with a description.
    """

    command_class = HelpedCommand

    def __init__(self, *arguments: Any, examples: Mapping[str, str] | None = None, **options: Any) -> None:
        options.setdefault("context_settings", {"help_option_names": HELP_OPTIONS})
        super().__init__(*arguments, **options)
        self.examples = dict(examples or {})

    def get_help(self, ctx: click.Context) -> str:
        """Return the help text with terminal escapes.

        click removes them if the output is no terminal.
        """
        return _help(self, ctx, self.examples)


def _help(command: click.Command, ctx: click.Context, examples: Mapping[str, str]) -> str:
    """Return usage, description, commands, options and examples of a command."""
    import shutil

    from rich.console import Console
    from rich.text import Text

    pieces = " ".join(command.collect_usage_pieces(ctx))
    parts: list[RenderableType] = [Text.assemble(("Usage: ", "bold"), (ctx.command_path, "bold cyan"), " ", pieces)]
    parts += [Text(), _indented(Text(_paragraphs(command.help or "")))]
    if isinstance(command, click.Group):
        found = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
        parts += _section("Commands", [(name, _summary(found_command)) for name, found_command in found])
    options = [option for option in command.get_params(ctx) if isinstance(option, click.Option)]
    for title, of_source in (("Options", False), ("Options of every SOURCE", True)):
        chosen = [option for option in options if isinstance(option, SourceOption) is of_source]
        parts += _section(title, [record for option in chosen if (record := option.get_help_record(ctx))])
    if examples:
        parts += [Text("\nExamples", "bold")]
        for line, purpose in examples.items():
            parts += [_indented(Text(f"# {purpose}", "dim")), _indented(Text(f"$ {line}", "cyan"))]
    width = min(shutil.get_terminal_size().columns, WIDEST)
    is_colored = has_escapes()
    colors: Literal["standard"] | None = "standard" if is_colored else None
    console = Console(width=width, force_terminal=is_colored, color_system=colors, highlight=False, emoji=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get().rstrip("\n")


def _section(title: str, rows: Sequence[tuple[str, str]]) -> list[RenderableType]:
    """Return a heading and two columns below it; nothing if there are no rows."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return []
    grid = Table.grid(padding=(0, 3))
    grid.add_column(no_wrap=True)
    for left, right in rows:
        grid.add_row(Text(left, "cyan"), Text(right))
    return [Text(f"\n{title}", "bold"), _indented(grid)]


def _indented(part: RenderableType) -> RenderableType:
    from rich.padding import Padding

    return Padding(part, (0, 0, 0, 2), expand=False)


def _summary(command: click.Command | None) -> str:
    """Return the whole first paragraph of a command's help."""
    return "" if command is None else _paragraphs(command.help or "").split("\n")[0]


def _paragraphs(text: str) -> str:
    """Return the text without line breaks inside its paragraphs.

    So they can be wrapped anew.
    """
    import inspect

    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))
