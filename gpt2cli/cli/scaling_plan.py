"""gpt2 fit-scaling plan: a ladder of small runs for the time there is, and what one large run would cost."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import (
    Amount,
    AnyPath,
    Count,
    Real,
    Whole,
    device_option,
    force_option,
    output_option,
    threads_option,
)
from gpt2cli.cli.scaling_options import ENVIRONMENT, the_law, write_records
from gpt2cli.errors import UsageFault
from gpt2cli.sizes import GPT2_CONTEXT, GPT2_VOCAB_SIZE, ModelShape, default_heads, size_by_name

_LADDER_CONTEXT = 32
_BATCH_TOKENS = 524_288


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@click.argument("shards", required=False, metavar="[SHARDS]", type=AnyPath())
@click.option("--minutes", type=Real(0, 1e6, min_open=True), metavar="M",
              help="Plan a ladder on SHARDS that takes so long on this machine.")
@click.option("--jobs", type=Whole(1, 1024), metavar="N", help="Runs at a time, a thread each; default 2.")
@click.option("--shapes", is_flag=True, help="Runs of one N and D with other depths, widths and heads instead.")
@click.option("--make", "as_make", is_flag=True, help="Print the ladder as make variables, for demo/ladder/rungs.mk.")
@click.option("--size", metavar="NAME", help="Cost of a run instead, without SHARDS: small, medium, large or xl.")
@click.option("--layers", type=Count(1), metavar="N", help="Layers of that run's model; with --embd.")
@click.option("--embd", type=Count(1), metavar="N", help="Its width.")
@click.option("--heads", type=Count(1), metavar="N", help="Its heads; default: head size 64, or less.")
@click.option("--d", "tokens", type=Amount(1), metavar="D", help="Its training tokens; default: 20 a parameter.")
@click.option("--context", type=Count(1), metavar="T", help="Default 32 for a ladder, 1024 for a run.")
@click.option("--vocab-size", type=Count(1), metavar="V", help="Vocabulary of the run; default 50,257.")
@click.option("--batch-tokens", type=Count(1), metavar="B", help="Tokens of its step; default 524,288.")
@click.option("--flops-per-second", "rate", type=Amount(1), metavar="X",
              help="Speed of a device: its peak times its utilisation; default: measured here.")
@click.option("--devices", type=Whole(1, 1_000_000), metavar="N", help="Devices that share each batch; default 1.")
@click.option("--price", type=Real(0), metavar="P", help="Of a device and hour, in any currency.")
@click.option("--law", metavar="NAME", help="Also the loss that a published law predicts for the run.")
@click.option("--fit", "fit_file", metavar="FILE", type=AnyPath(), help="Or that of a law fitted before.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the measurement; default auto.")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def plan(
    console: Console, shards: str | None, minutes: float | None, shapes: bool, as_make: bool, output: str, force: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """Plan a ladder for so many minutes on this machine, or tell what a run would take: memory, time and FLOP.

    Both measure first, for some seconds, how fast this machine trains. A ladder comes as one gpt2.plan record for
    every run, or as the words by which make runs it; its widest model is to be held out of the fit.
    """
    run_only = ("size", "layers", "embd", "heads", "tokens", "vocab_size", "batch_tokens", "rate", "devices", "price",
                "law", "fit_file", "dtype", "threads")  # fmt: skip
    if minutes is not None:
        _refuse(asked, run_only, "a ladder (--minutes)")
        if shards is None:
            raise UsageFault("which training set? give SHARDS, a directory made by gpt2 pack")
        _ladder(console, shards, minutes, asked["jobs"] or 2, shapes, asked["context"], as_make, output, force)
        return
    if asked["size"] is None and asked["layers"] is None and asked["embd"] is None:
        raise UsageFault("plan SHARDS --minutes M plans a ladder; plan --size NAME tells what a run would cost")
    if shards is not None or shapes or as_make or asked["jobs"]:
        raise UsageFault("SHARDS, --jobs, --shapes and --make belong to a ladder: give --minutes with them")
    _run(_shape(asked), asked, output, force)


def _refuse(asked: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    context = click.get_current_context()
    spelled = {param.name: param.opts[0] for param in context.command.params}
    given = [spelled[name] for name in names if asked[name] is not None]
    if given:
        raise UsageFault(f"{' and '.join(given)} belong to the cost of a run, not to {what}")


def _ladder(
    console: Console, shards: str, minutes: float, jobs: int, shapes: bool, context: int | None, as_make: bool,
    output: str, force: bool,
) -> None:  # fmt: skip
    from gpt2cli.cli.ladder_speed import measure
    from gpt2cli.records.shard_set import load_shard_set
    from gpt2cli.scaling.ladder import MOST_EPOCHS, check_tokens, plan_ladder, plan_shapes
    from gpt2cli.scaling.ladder_words import make_words

    found = load_shard_set(shards)
    check_tokens(found.n_tokens("train"))
    data = ModelShape(1, 1, 1, context or _LADDER_CONTEXT, found.n_vocab)
    speed = measure(shards, data, jobs, console)
    ladder = (plan_shapes if shapes else plan_ladder)(minutes, jobs, speed, data, found.n_tokens("train"))
    if as_make:
        _write_words(make_words(ladder), output, force)
    else:
        write_records("gpt2.plan", _rung_records(ladder), output, force)
    _show_ladder(ladder, found.n_tokens("train"), speed)
    if ladder.data_bound:
        console.note(f"the ladder ends where {MOST_EPOCHS} passes over the shards do: with more text it would use more "
                     "of the time")  # fmt: skip


def _write_words(words: str, output: str, force: bool) -> None:
    from gpt2cli.records.streams import open_output

    with open_output(output, force=force) as stream:
        stream.write(words.encode())


def _rung_records(ladder: Any) -> list[dict[str, Any]]:
    from gpt2cli.scaling.ladder import BATCH_TOKENS
    from gpt2cli.scaling.ladder_words import rung_words
    from gpt2cli.scaling.study import rounded

    records = []
    for rung in ladder.rungs:
        shape = rung.shape
        steps = ladder.trunk_steps if rung.steps is None else rung.steps
        records.append(rounded({
            "law": None, "flops": float(steps * BATCH_TOKENS * shape.train_flops_per_token()), "kind": "rung",
            "run": rung.name, "trunk": rung.steps is None, "held_out": rung.held_out, "n": float(shape.n_params),
            "d": float(steps * BATCH_TOKENS), "n_layer": shape.n_layer, "n_head": shape.n_head,
            "n_embd": shape.n_embd, "steps": steps, "lr": rung.lr, "seconds": rung.seconds,
            "train": rung_words(rung, ladder),
        }))  # fmt: skip
    return records


def _show_ladder(ladder: Any, train_tokens: int, speed: Any) -> None:
    from gpt2cli.cli.scaling_tables import short, show
    from gpt2cli.scaling.ladder import BATCH_TOKENS

    by_shape: dict[str, list[Any]] = {}
    for rung in ladder.rungs:
        by_shape.setdefault(rung.network, []).append(rung)
    rows = []
    for network, rungs in by_shape.items():
        ends = sorted(rung.steps for rung in rungs if rung.steps is not None)
        tokens = ", ".join(short(end * BATCH_TOKENS) for end in ends)
        seconds, held_out = sum(rung.seconds for rung in rungs), rungs[0].held_out
        rows.append((network, short(rungs[0].shape.n_params), f"{rungs[0].lr:g}", tokens, f"{seconds:.0f} s",
                     "held out" if held_out else ""))
    longest = max(rung.steps or 0 for rung in ladder.rungs) * BATCH_TOKENS
    steps = ", ".join(f"{1000 * second:.1f} ms at width {width}" for width, second in speed.step_seconds.items())
    show(f"A ladder of about {ladder.seconds / 60:.1f} minutes, {ladder.jobs} runs at a time "
         f"(steps of {BATCH_TOKENS} tokens; {longest / train_tokens:.1f} passes over the data; a step takes {steps}, a "
         f"run {speed.start_seconds:.1f} s to begin)",
         ("network", "N", "peak lr", "D", "all its runs", ""), rows)  # fmt: skip


def _shape(asked: dict[str, Any]) -> ModelShape:
    data = (asked["context"] or GPT2_CONTEXT, asked["vocab_size"] or GPT2_VOCAB_SIZE)
    if asked["size"] is not None:
        if asked["layers"] or asked["embd"] or asked["heads"]:
            raise UsageFault("give either --size or --layers and --embd, not both")
        return size_by_name(asked["size"])[1].with_data(*data)
    if asked["layers"] is None or asked["embd"] is None:
        raise UsageFault("--layers and --embd go together")
    return ModelShape(asked["layers"], asked["heads"] or default_heads(asked["embd"]), asked["embd"], *data)


def _run(shape: ModelShape, asked: dict[str, Any], output: str, force: bool) -> None:
    from gpt2cli.cli.run_speed import measure
    from gpt2cli.scaling.answers import at_size_and_tokens
    from gpt2cli.scaling.run_cost import cost_record, run_cost, speed_of_rate
    from gpt2cli.scaling.study import rounded

    known = None if asked["law"] is None and asked["fit_file"] is None else the_law(asked["law"], asked["fit_file"])
    tokens = asked["tokens"] or 20 * shape.n_params
    batch = asked["batch_tokens"] or max(1, _BATCH_TOKENS // shape.n_ctx) * shape.n_ctx
    if asked["rate"] is not None:
        speed = speed_of_rate(shape, float(asked["rate"]))
    else:
        speed = measure(shape, asked["device"], asked["dtype"] or "auto", asked["threads"])
    cost = run_cost(shape, tokens, batch, speed, devices=asked["devices"] or 1, price_per_hour=asked["price"])
    record = {"law": None if known is None else known.name, **cost_record(cost, speed)}
    if known is not None:
        n = shape.n_params if known.count == "total" else shape.n_params_non_embedding
        record |= {key: value for key, value in at_size_and_tokens(known, float(n), float(tokens)).items()
                   if key.startswith("loss_nats")}  # fmt: skip
    write_records("gpt2.plan", [rounded(record)], output, force)
    _show_run(record, asked["devices"] or 1)


def _show_run(record: dict[str, Any], devices: int) -> None:
    from gpt2cli.cli.scaling_tables import interval_text, loss_text, short, show

    memory = record["memory_bytes"]
    parts = ", ".join(f"{name} {memory[name] / 2**30:.2f}" for name in memory if name != "total")
    rows = [
        ("network", f"{record['n_layer']} layers, {record['n_embd']} wide, {record['n_head']} heads, context "
                    f"{record['n_ctx']:,}, vocabulary {record['n_vocab']:,}"),
        ("N", f"{record['n']:,.0f} ({record['n_params_non_embedding']:,} without embeddings)"),
        ("D", f"{short(record['d'])}, {record['d'] / record['n']:.3g} a parameter: {record['steps']:,} steps of "
              f"{record['batch_tokens']:,}"),
        ("FLOP", f"{record['flops']:.3e}, exact; 6 N D = {6 * record['n'] * record['d']:.3e}"),
        ("memory", f"{memory['total'] / 2**30:.2f} GiB a device with fp32 states and one sequence at a time: {parts}"),
        ("speed", f"{record['flops_per_second']:.3g} FLOP a second on {devices} device{'s' if devices > 1 else ''} "
                  f"({record['source']})"),
        ("time", f"{_duration(record['seconds'])}; {record['device_hours']:,.3g} device-hours"),
    ]  # fmt: skip
    if record["price"] is not None:
        rows.append(("price", f"{record['price']:,.2f}"))
    if "loss_nats" in record:
        interval = interval_text(record.get("loss_nats_interval"), loss_text)
        rows.append((f"loss by {record['law']}", f"{loss_text(record['loss_nats'])} {interval}".rstrip()))
    show("What the run would take", ("", ""), rows)


def _duration(seconds: float) -> str:
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} seconds"
