"""gpt2 export: a model in other programs' files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import AnyPath, OutputPath, force_option
from gpt2cli.cli.output_checks import check_file_name

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console

KINDS = ("gguf", "ctranslate2", "onnx", "openai", "llm.c")


@click.command("export", cls=Gpt2Command, short_help="A model in another program's files.")
@click.argument("model", required=False, metavar="[MODEL]", envvar="GPT2_MODEL", type=AnyPath())
@click.option("--to", "kind", type=click.Choice(KINDS), required=True,
              help="For llama.cpp; CTranslate2; onnxruntime; OpenAI's TensorFlow code; llm.c.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16", "int8"]), default="fp32", show_default=True,
              help="Type of the matrices: gguf and ctranslate2 take all (int8 is GGUF's Q8_0), llm.c fp32 and bf16, "
                   "the others fp32.")
@click.option("-o", "--output", required=True, type=OutputPath(directory=True), metavar="PATH",
              help="A file for gguf and llm.c, a directory for the others.")
@force_option()
@click.pass_obj
def command(console: Console, model: str | None, kind: str, dtype: str, output: str, force: bool) -> None:
    """Write a MODEL as a file or directory that another program reads, in fp32 the very same numbers.

    Without MODEL: $GPT2_MODEL, else the newest run under runs/.
    """
    if output == "-":
        raise click.UsageError("a model can't be written to standard output; name a file or directory with -o")
    from gpt2cli.interchange.export_model import FILE_KINDS, ExportConfig, export_model

    if kind in FILE_KINDS:
        check_file_name(output)
    summary = export_model(ExportConfig(model, kind, output, dtype, force), console)
    names = f": {', '.join(summary.names)}" if summary.names else ""
    console.note(f"{summary.output}{names}: {summary.n_bytes:,} bytes")
