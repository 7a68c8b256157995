"""gpt2 fit-scaling compare --shapes: runs of one size beside each other by depth, width and heads."""

from __future__ import annotations

from gpt2cli.cli.console import Console
from gpt2cli.cli.scaling_options import write_records


def compare_shapes(console: Console, files: tuple[str, ...], output: str, force: bool) -> None:
    """Write a record and show a line for every finished run of `files`, best first, and the spread of their losses."""
    from gpt2cli.cli.scaling_tables import loss_text, short, show
    from gpt2cli.scaling.shapes import read_shapes
    from gpt2cli.scaling.study import rounded

    found = read_shapes(files, console)
    records = [
        rounded({"law": None, "flops": None, "kind": "shape", "run": one.run, "n_layer": one.n_layer,
                 "n_embd": one.n_embd, "n_head": one.n_head, "count": "non-embedding", "n": one.n, "d": one.d,
                 "loss_nats": one.loss, "above_best": one.above_best})
        for one in found
    ]  # fmt: skip
    write_records("gpt2.plan", records, output, force)
    rows = [
        (str(one.n_layer), str(one.n_embd), str(one.n_head), f"{one.aspect:.3g}", f"{one.n_embd / one.n_head:.3g}",
         short(one.n), loss_text(one.loss), f"{100 * one.above_best:+.2f} %")
        for one in found
    ]  # fmt: skip
    show(f"Shapes of one size, D = {short(found[0].d)}: the worst of {len(found)} lies "
         f"{100 * found[-1].above_best:.1f} % above the best",
         ("layers", "width", "heads", "width/depth", "head size", "N without embeddings", "loss", "above the best"),
         rows)  # fmt: skip
